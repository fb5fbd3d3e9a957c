// The main of every test program that runs in one process.
#define CATCH_CONFIG_RUNNER
#include "session.hpp"

int main(int argc, char** argv) { return run_session(argc, argv); }
