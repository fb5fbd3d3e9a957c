// What a build for another processor, by another compiler or with other versions of libraries is held to, in one unit
// that needs xsimd and nlohmann-json alone: golden checkpoints on several ranks, and the law of collectives.
//   tools/check_portability --reduced builds and runs it.
#include <cstdio>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/models/transformer.hpp>

#include "comm/collectives_law.hpp"
#include "program/golden.hpp"

using namespace tessera;

namespace {

int passed = 0, failed = 0;

void report(bool good, const std::string& what) {
  ++(good ? passed : failed);
  if (!good) std::printf("FAILED: %s\n", what.c_str());
}

template <class Sharding, class Softmax, class Backend>
void hold_to(const program::Golden& golden, int ranks, int threads, double tolerance) {
  for (const program::Outcome& outcome : InProcess::run(ranks, [&](Communicator comm) {
         Transformer<Sharding, Softmax, Backend> model(comm, golden.config, golden.weights,
                                                       {.limits = program::limits_of(golden), .threads = threads});
         return program::run_golden(model, golden, {9, 20, 1});
       }))
    report(outcome.good(golden, tolerance), concat(golden.name, ", ", Sharding::name, ", ", Softmax::name, ", ",
                                                   Backend::name(), ", ", ranks, " ranks: ", outcome.worst));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: reduced_test GOLDEN_FOLDER\n");
    return 2;
  }
  try {
    for (const auto& folder : program::golden_folders(argv[1])) {
      const program::Golden golden = program::load_golden(folder);
      hold_to<HeadWise, OnlineSoftmax, XsimdBackend<>>(golden, 1, 2, 2e-4);
      hold_to<HeadWise, OnlineSoftmax, XsimdBackend<>>(golden, 3, 1, 2e-4);
      hold_to<Sequence<>, OnlineSoftmax, XsimdBackend<>>(golden, 2, 1, 2e-4);
      hold_to<HeadWise, StandardSoftmax, ScalarBackend>(golden, 2, 1, 1e-4);
    }
    report(test::check_law(Loopback{}, 1, 20011).empty(), "the law of collectives on one rank");
    for (const int ranks : {2, 3})
      for (const std::string& found :
           InProcess::run(ranks, [](Communicator comm) { return test::check_law(std::move(comm), 2, 20011); }))
        report(found.empty(), "the law of collectives: " + found);
  } catch (const std::exception& error) {
    report(false, error.what());
  }
  std::printf("%s, %s: %d passed, %d failed\n", std::string(compiled_isa()).c_str(),
              std::string(XsimdBackend<>::name()).c_str(), passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
