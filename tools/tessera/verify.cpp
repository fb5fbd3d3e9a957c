// tessera verify DIR: every shipped combination of policies, on the ranks there are, against transformers' logits.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <tessera/comm/agree.hpp>
#include <tessera/comm/choose.hpp>

#include "commands.hpp"
#include "program/combinations.hpp"
#include "program/golden.hpp"
#include "program/model_options.hpp"
#include "program/one_rank.hpp"

namespace tessera::tools {

namespace {

struct VerifyOptions {
  std::string folder;
  std::string collectives = "auto";
  program::ModelOptions model;  // of it, the cache
};

/// The tolerances of the project: a scalar sum and a vector sum round differently.
double tolerance_of(const Combination& row, const program::Golden& golden) {
  return program::tolerance_of(golden.cache, row.backend);
}

/// A hybrid is verified with the largest inner dimension that leaves two groups or more.
index_t inner_size(const Combination& row, index_t ranks) {
  if (!row.is_hybrid()) return 1;
  for (index_t inner = ranks / 2; inner > 1; --inner)
    if (ranks % inner == 0) return inner;
  return 1;
}

struct Cell {
  double worst = 0;
  double rms = 0;
  double gap = 0;
  bool good = true;
  bool refused = false;
};

/// One combination on one golden: the prompt at once and in uneven chunks; the same verdict on every rank.
Cell verify_cell(Communicator comm, const Combination& row, const program::Golden& golden) {
  Cell cell;
  const index_t inner = inner_size(row, comm.size());
  try {
    row.arithmetic.check(golden.config, {comm.rank(), comm.size(), {}, inner});
  } catch (const Error&) {
    cell.refused = true;
    return cell;
  }
  std::vector<float> last;
  for (const std::vector<index_t>& chunks : {std::vector<index_t>{1 << 20}, std::vector<index_t>{5, 1, 17, 3}}) {
    const auto model =
        row.make(comm, golden.config, golden.weights, {.limits = program::limits_of(golden), .inner = inner});
    const program::Outcome outcome = program::run_golden(*model, golden, chunks);
    cell.worst = std::max(cell.worst, outcome.worst);
    cell.rms = std::max(cell.rms, outcome.rms());
    cell.gap = outcome.smallest_gap;
    cell.good = cell.good && outcome.good(golden, tolerance_of(row, golden));
    last = outcome.last_logits;
  }
  // Bits must agree across ranks, not only values.
  std::vector<float> of_first = last;
  comm.broadcast(std::span(of_first), 0);
  const char same = of_first == last ? 1 : 0;
  std::vector<char> all(static_cast<std::size_t>(comm.size()));
  comm.allgather<char>({&same, 1}, std::span(all), std::vector<index_t>(all.size(), 1));
  for (const char rank_is_same : all) cell.good = cell.good && rank_is_same != 0;
  return cell;
}

int verify(const Communicator& world, const VerifyOptions& options) {
  Communicator comm = choose_collectives(world, options.collectives).communicator;
  const auto goldens = agree(comm, [&] {
    std::vector<program::Golden> found;
    for (const auto& folder : program::golden_folders(options.folder)) {
      program::Golden& golden = found.emplace_back(program::load_golden(folder));
      golden.cache = program::chosen_cache(options.model);
      if (golden.cache != CacheType::f32) program::expect_one_rank(golden, golden.weights);
    }
    return found;
  });
  const bool speaks = comm.rank() == 0;
  if (speaks) fmt::print(stderr, "{} ranks; collectives: {}\n", comm.size(), comm.name());
  int failed = 0;
  int passed = 0;
  if (speaks)
    fmt::print("{:<14} {:>5} {:<31} {:<9} {:<15} {:<7} {:>10} {:>10} {:>9} {:>9}  {}\n", "golden", "ranks", "sharding",
               "decode", "softmax", "simd", "max error", "tolerance", "least gap", "rms error", "verdict");
  for (const program::Golden& golden : goldens)
    for (const Combination& row : program::shipped_combinations()) {
      const Cell cell = verify_cell(comm, row, golden);
      if (!cell.refused) ++(cell.good ? passed : failed);
      if (!speaks) continue;
      fmt::print("{:<14} {:>5} {:<31} {:<9} {:<15} {:<7} ", golden.name, comm.size(), row.sharding, row.decode,
                 row.softmax, row.backend);
      if (cell.refused)
        fmt::print("{:>10} {:>10} {:>9} {:>9}  more ranks than it can use\n", "-", "-", "-", "-");
      else
        fmt::print("{:>10.2e} {:>10.0e} {:>9.3f} {:>9.2e}  {}\n", cell.worst, tolerance_of(row, golden), cell.gap,
                   cell.rms, cell.good ? "ok" : "FAILED");
      std::fflush(stdout);
    }
  if (speaks) fmt::print("{} passed, {} failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("verify", "Hold every combination of policies to transformers' logits");
  const auto options = std::make_shared<VerifyOptions>();
  command->add_option("DIR", options->folder, "A golden checkpoint (with golden.safetensors), or a folder of them")
      ->required();
  command->add_option("--collectives", options->collectives, "How ranks talk: auto (as in every run), mpi or shm")
      ->check(CLI::IsMember({"auto", "mpi", "shm"}))
      ->capture_default_str();
  program::add_cache_option(*command, options->model);
  command->footer(
      "Errors are in standard deviations of a row of logits; the least gap is how far the closest choice of a token "
      "was,\n"
      "in the same unit. With --kv-cache bf16 or int8 it is the scalar reference on one rank, with the same cache, "
      "that\n"
      "the combinations are held to. tools/verify_golden runs it for several numbers of ranks.\n\n"
      "  tessera verify test/golden\n"
      "  mpiexec.mpich -n 3 tessera verify test/golden/qwen3-tiny");
  command->callback(
      [options, &action] { action = [options](const Communicator& comm) { return verify(comm, *options); }; });
}

}  // namespace tessera::tools
