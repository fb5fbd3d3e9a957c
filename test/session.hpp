#pragma once
// How every test program runs its cases: in the order of the file, with one seed, whatever the version of Catch2.

#include "catch.hpp"

/// Runs the cases that the command line selects; where it names an order or a seed, it wins. Returns the failures.
inline int run_session(int argc, char** argv) {
  Catch::Session session;
  session.configData().rngSeed = 1;
#if CATCH_VERSION_MAJOR >= 3
  session.configData().runOrder = Catch::TestRunOrder::Declared;  // version 2 knows no other default
#endif
  return session.run(argc, argv);
}
