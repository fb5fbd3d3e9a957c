// A model's steps on simulated ranks: started by tools/simulate, which makes platforms and sweeps.
#include <smpi/smpi.h>
#include <sys/prctl.h>

#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>

#include <tessera/comm/agree.hpp>
#include <tessera/io/presets.hpp>
#include <tessera/nn/decoder_layer.hpp>
#include <tessera/runtime/advice.hpp>
#include <tessera/simulate/unread_weights.hpp>

#include "program/benchmark_report.hpp"
#include "program/combinations.hpp"
#include "program/command_line.hpp"
#include "program/finite_range.hpp"
#include "simulated/machine_file.hpp"
#include "simulated/meeting_transport.hpp"
#include "simulated/smpi_transport.hpp"

namespace tessera::simulated {

namespace {

struct Options {
  program::ModelOptions model;
  std::string preset, platform = "unnamed", phase = "prefill";
  std::vector<std::string> machines;
  std::vector<index_t> prompt_len = {512};
  index_t gen_len = 1, batch_size = 1, layers = 0, simulated_layers = 4, plan = 0;
  double gigabits = 10, microseconds = 50, message = 1;
};

void add_options(CLI::App& app, Options& o) {
  app.add_option("--preset", o.preset, "The shape of a published model, in bf16")->required()->type_name("NAME");
  app.add_option("--machine", o.machines, "Model of a rank's machine; several: the ranks have them in turn")
      ->delimiter(',')
      ->required()
      ->type_name("FILE");
  app.add_option("--platform", o.platform, "What the rows call the platform")->type_name("NAME");
  program::add_sharding_options(app, o.model);
  program::add_cache_option(app, o.model);
  app.add_option("--phase", o.phase, "prefill or decode")->check(CLI::IsMember({"prefill", "decode"}));
  app.add_option("--prompt-len", o.prompt_len, "Tokens of a prompt; decode goes on from there")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--gen-len", o.gen_len, "Tokens that decode makes")->check(CLI::Range(1, 1 << 20));
  app.add_option("--batch-size", o.batch_size, "Sequences at a time")->check(CLI::Range(1, 4096));
  app.add_option("--chunk", o.model.chunk, "Tokens that prefill takes at a time")->check(CLI::Range(1, 1 << 24));
  app.add_option("--layers", o.layers, "Decoder layers of the model (default: all of the preset's)")
      ->check(CLI::Range(1, 65536));
  app.add_option("--simulated-layers", o.simulated_layers,
                 "So many layers are simulated; the others are like the last of them. 0: all")
      ->check(CLI::Range(0, 65536));
  app.add_option("--plan", o.plan, "Simulate nothing: what the planner says of the policies that so many ranks can use")
      ->check(CLI::Range(1, 4096));
  app.add_option("--bandwidth", o.gigabits, "For the planner: Gbit/s that leave a rank")
      ->check(program::finite_range(1e-9, 1e12));
  app.add_option("--message", o.message, "For the planner: microseconds of a rank for a message")
      ->check(program::finite_range(1e-9, 1e12));
  app.add_option("--latency", o.microseconds, "For the planner: microseconds from rank to rank")
      ->check(program::finite_range(1e-9, 1e12));
}

Limits limits_of(const Options& o, const program::BenchmarkCase& of) {
  return {.max_tokens = std::max(of.batch_size, std::min(o.model.chunk, of.prompt_len * of.batch_size)),
          .max_positions = of.prompt_len + of.gen_len,
          .max_sequences = of.batch_size,
          .cache = program::chosen_cache(o.model)};
}

/// What the planner says of every policy that so many ranks can use, the fastest in the phase first, a line each.
void print_plan(const Options& o, const ModelConfig& config, const MachineModel& machine, index_t prompt_len) {
  const bool decode = o.phase == "decode";
  const PlannedRequest request{
      .sequences = o.batch_size, .prompt = prompt_len, .chunk = o.model.chunk, .new_tokens = o.gen_len};
  const Limits limits =
      limits_of(o, {.prompt_len = prompt_len, .gen_len = decode ? o.gen_len : 0, .batch_size = o.batch_size});
  const Speeds speeds{.flops = machine.flops * machine.products.at(512),
                      .memory = machine.memory * machine.reading,
                      .bandwidth = o.gigabits * 1e9 / 8,
                      .latency = o.microseconds * 1e-6,
                      .message = o.message * 1e-6};
  std::vector<PolicyChoice> choices = rank_policies(program::shipped_combinations(), config, o.plan, request, limits,
                                                    bytes_per_number({}, limits.cache, config.head_dim), speeds);
  const auto seconds = [&](const PolicyChoice& each) { return (decode ? each.decode : each.prefill).seconds(); };
  std::stable_sort(choices.begin(), choices.end(),
                   [&](const auto& a, const auto& b) { return seconds(a) < seconds(b); });
  for (const PolicyChoice& each : choices)
    fmt::print(
        "{{\"parallel_strategy\": \"{}\", \"decode_strategy\": \"{}\", \"prompt_len\": {}, \"seconds\": {:.6g}, "
        "\"sent_bytes\": {}, \"bytes_of_rank\": {}}}\n",
        typed_name(*each.combination, o.plan, each.inner), each.combination->decode, prompt_len, seconds(each),
        (decode ? each.decode : each.prefill).wire.bytes, each.footprint.total());
}

/// What the last of the simulated layers took in every step, from the end of the layer before it.
TimeSplit split_of_last_layer(Communicator& meeting, const Trace& trace, index_t layers) {
  const std::span<const TraceEvent> all = trace.lane(0).events();
  Trace last(1, static_cast<index_t>(all.size()));
  last.record(true);
  std::int64_t taken = 0, begin = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].name != &trace_layer) continue;
    if (all[i].number == 0) begin = all[i].begin;
    if (all[i].number == layers - 1) {
      taken += all[i].end - begin;
      for (const TraceEvent& event : all.subspan(first, i - first))
        if (event.begin >= begin) last.lane(0).add(event);
    }
    begin = all[i].end, first = i + 1;
  }
  return split_time(meeting, last, static_cast<double>(taken) / 1e9);
}

/// A case with a model of which the first `simulated` layers are: the others are taken to be like the last of those.
program::BenchmarkRow simulate(const Options& o, const program::Policies& policies, const ModelConfig& config,
                               const program::BenchmarkCase& of, Communicator meeting, index_t simulated) {
  Trace trace(1, index_t{1} << 18);
  ModelConfig part = config;
  part.layers = simulated;
  Limits limits = limits_of(o, of);
  // The prompt before a token to decode is not what is timed: it takes one step.
  if (of.phase == program::BenchmarkPhase::decode) limits.max_tokens = of.prompt_len * of.batch_size;
  const TransformerOptions sizes{.limits = limits,
                                 .threads = 1,
                                 .shares = policies.shares,
                                 .overlap = false,
                                 .inner = policies.inner,
                                 .trace = &trace};
  const Communicator comm = SmpiTransport(MPI_COMM_WORLD, Delivery::time_of_large_messages, &trace.lane(0));
  const auto model = policies.combination->make(comm, part, unread_weights(part), sizes);
  program::BenchmarkRow row = program::run_case(*model, meeting, of, {.warmup = 0, .iters = 0}, trace);
  require(trace.lane(0).lost() == 0, "more steps than there is room for in a trace: expected fewer tokens");
  if (simulated < config.layers) {
    const TimeSplit layer = split_of_last_layer(meeting, trace, simulated);
    const auto more = static_cast<double>(config.layers - simulated);
    row.seconds_median += more * layer.total();
    row.seconds_min = row.seconds_max = row.seconds_first = row.seconds_median;
    row.split.compute += more * layer.compute;
    row.split.communication += more * layer.communication;
    row.split.waiting += more * layer.waiting;
  }
  return row;
}

/// Adds what the machines allow at best, and the memory of the rank that holds the most, by the arithmetic of the
/// planner: pages of simulated ranks are not touched.
void hold_against(program::BenchmarkRow& row, const Options& o, const program::Policies& policies,
                  const ModelConfig& config, const program::MachinePeak& peak, index_t ranks) {
  Limits limits = limits_of(o, row.of);
  limits.states_merge = policies.combination->states_merge;
  row.peak = peak;
  row.seconds_bound = program::seconds_bound(config, limits, unread_weights(config), row.of, peak);
  const Footprint held =
      largest_footprint(policies.combination->arithmetic, config, {0, ranks, policies.shares, policies.inner}, limits,
                        bytes_per_number({}, limits.cache, config.head_dim));
  row.bytes_private = held.activations + held.exchange;
  row.bytes_cache = held.cache;
}

int run(int argc, char** argv) {
  Options o;
  o.model.simd = CostBackend::name();
  o.model.chunk = 8192;
  CLI::App app("simulated_benchmark: prefill and decode of a model on simulated ranks");
  add_options(app, o);
  Communicator meeting = MeetingTransport();
  if (const auto status = program::parse(meeting, app, argc, argv)) return *status;
  const index_t ranks = meeting.size();
  std::vector<MachineModel> machines;
  for (const std::string& file : o.machines) machines.push_back(read_machine(file));
  account_of_actor().machine = machines[static_cast<std::size_t>(meeting.rank()) % machines.size()];
  program::MachinePeak peak;
  for (index_t r = 0; r < ranks; ++r) {
    const MachineModel& machine = machines[static_cast<std::size_t>(r) % machines.size()];
    peak.flops += machine.flops, peak.file_bandwidth += machine.memory, peak.buffer_bandwidth += machine.memory;
  }
  ModelConfig config = preset_named(o.preset).config();
  if (o.layers > 0) config.layers = o.layers;
  if (o.plan > 0) {
    for (const index_t prompt_len : o.prompt_len)
      if (meeting.rank() == 0) print_plan(o, config, account_of_actor().machine, prompt_len);
    return 0;
  }
  const program::Policies policies = program::chosen_policies(o.model, meeting.size());

  const auto threads = static_cast<index_t>(account_of_actor().machine.threads);
  program::BenchmarkSetting setting{.model = o.preset,
                                    .mode = "simulated",
                                    .method = account_of_actor().machine.name,
                                    .parallel_strategy = o.model.parallel_strategy,
                                    .decode_strategy = std::string(policies.combination->decode),
                                    .attention_algo = std::string(policies.combination->softmax),
                                    .simd = "simulated",
                                    .isa = "simulated",
                                    .dtype = "bf16",
                                    .transport = "smpi",
                                    .world_size = meeting.size(),
                                    .threads = threads,
                                    .chunk = o.model.chunk,
                                    .attention = {},
                                    .cache = program::chosen_cache(o.model)};
  const program::WeightBytes bytes = program::bytes_of(unread_weights(config));
  setting.bytes_weights = static_cast<index_t>(bytes.layers + bytes.lm_head);
  const bool decode = o.phase == "decode";
  for (const index_t prompt_len : o.prompt_len) {
    const program::BenchmarkCase of{decode ? program::BenchmarkPhase::decode : program::BenchmarkPhase::prefill,
                                    prompt_len, decode ? o.gen_len : 0, o.batch_size};
    // A context longer than the model was made for is asked for to learn what it would cost.
    ModelConfig wide = config;
    wide.max_positions = std::max(config.max_positions, prompt_len + of.gen_len);
    const index_t simulated_layers = o.simulated_layers == 0 ? wide.layers : std::min(wide.layers, o.simulated_layers);
    program::BenchmarkRow row = simulate(o, policies, wide, of, meeting, simulated_layers);
    if (meeting.rank() != 0) continue;
    hold_against(row, o, policies, wide, peak, ranks);
    std::string line = fmt::format("{{\"simulated\": true, \"platform\": \"{}\"", o.platform);
    for (const auto& [name, value] : program::fields_of(setting, row)) line += fmt::format(", \"{}\": {}", name, value);
    fmt::print("{}}}\n", line);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

}  // namespace tessera::simulated

// One message for all ranks, which meet the same fault, and are not in the middle of anything: no rank calls MPI while
// it handles an exception, for all of them share one stack of those.
int main(int argc, char** argv) {
  using namespace tessera;
  ::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);  // of large buffers a simulated rank touches a few bytes here and there
  MPI_Init(&argc, &argv);
  CostBackend::account = &simulated::account_of_actor;
  trace_clock_source = &simulated::simulated_nanoseconds;
  detail::Fault fault{};
  int status = 0;
  try {
    status = simulated::run(argc, argv);
  } catch (...) {
    fault = detail::current_fault();
    status = fault.status;
  }
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (!fault.text.empty() && rank == 0) fmt::print(stderr, "simulate: error: {}\n", fault.text);
  MPI_Finalize();
  return status;
}
