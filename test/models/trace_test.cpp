// A trace has a lane for each thread of each rank, its events nest, and it says what the policies say they send.
#include <filesystem>
#include <fstream>
#include <map>

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/recording.hpp>
#include <tessera/io/json.hpp>
#include <tessera/runtime/generate.hpp>
#include <tessera/runtime/trace_file.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"

using namespace tessera;

namespace {

constexpr int ranks = 2;
constexpr int threads = 2;
constexpr int decode_steps = 3;

struct TracedEvent {
  std::string name;
  std::string category;
  double begin;
  double end;
  index_t number;
};

/// Events by rank and thread.
using TracedLanes = std::map<std::pair<int, int>, std::vector<TracedEvent>>;

const Combination& combination_named(std::string_view sharding) {
  for (const Combination& row : program::shipped_combinations())
    if (row.sharding == sharding && row.softmax == "online_softmax" && row.backend == "native") return row;
  throw std::runtime_error("no such sharding");
}

/// Runs a prompt and some tokens, of which `traced` are written down, and reads the file.
TracedLanes lanes_of(const program::Golden& g, std::string_view sharding, bool traced, TimeSplit* split = nullptr) {
  const auto file = (std::filesystem::temp_directory_path() / concat("tessera-trace-", ::getpid(), ".json")).string();
  InProcess::run(ranks, [&](Communicator comm) {
    Trace trace(threads, 10000);
    const auto model = combination_named(sharding).make(
        comm, g.config, g.weights, {.limits = program::limits_of(g), .threads = threads, .trace = &trace});
    trace.record(traced);
    const std::int64_t begin = trace_clock();
    static_cast<void>(prefill(*model, 0, g.prompt, [](index_t) {}));
    const token_t token = 1;
    for (int n = 0; n < decode_steps; ++n) {
      const Chunk chunk{0, {&token, 1}, Wanted::last};
      model->step({&chunk, 1});
    }
    const double seconds = static_cast<double>(trace_clock() - begin) / 1e9;
    trace.record(false);
    const TimeSplit mine = split_time(comm, trace, seconds);
    if (split != nullptr && comm.rank() == 0) *split = mine;
    write_trace(comm, trace, file);
  });
  TracedLanes lanes;
  const Json all = Json::parse(std::ifstream(file));
  std::filesystem::remove(file);
  double first = 1e300;
  for (const Json& e : all["traceEvents"]) {
    std::vector<TracedEvent>& lane = lanes[{e["pid"].get<int>(), e.value("tid", 0)}];
    if (e["ph"] != "X") continue;
    const double begin = e["ts"].get<double>();
    first = std::min(first, begin);
    index_t number = -1;
    if (e.contains("args")) number = e["args"].begin()->get<index_t>();
    lane.push_back({e["name"], e["cat"], begin, begin + e["dur"].get<double>(), number});
  }
  CHECK(first == (traced ? 0.0 : 1e300));  // Perfetto drops what lies before 0
  return lanes;
}

/// Whether each event lies within another or apart from it. They are in order of their ends, inner ones first.
bool nest(std::vector<TracedEvent> events) {
  constexpr double rounding = 0.0015;  // of two numbers of three digits
  std::stable_sort(events.begin(), events.end(), [](const TracedEvent& a, const TracedEvent& b) {
    return a.begin < b.begin || (a.begin == b.begin && a.end > b.end);
  });
  std::vector<double> open;
  for (const TracedEvent& event : events) {
    while (!open.empty() && open.back() <= event.begin + rounding) open.pop_back();
    if (!open.empty() && event.end > open.back() + rounding) return false;
    open.push_back(event.end);
  }
  return true;
}

bool within_some(const TracedEvent& event, const std::vector<TracedEvent>& lane, std::string_view category) {
  return std::any_of(lane.begin(), lane.end(), [&](const TracedEvent& other) {
    return other.category == category && other.begin <= event.begin + 0.0015 && event.end <= other.end + 0.0015;
  });
}

}  // namespace

TEST_CASE("a trace has a lane for every thread of every rank, in which events nest") {
  const program::Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-uneven");
  TimeSplit split;
  const TracedLanes lanes = lanes_of(g, "headwise", true, &split);
  REQUIRE(lanes.size() == ranks * threads);
  for (const auto& [place, lane] : lanes) {
    INFO("rank " << place.first << ", thread " << place.second);
    CHECK(nest(lane));
    std::map<std::string, index_t> count;
    std::map<index_t, index_t> layers;
    bool inside = true;
    index_t bytes = 0;
    for (const TracedEvent& event : lane) {
      ++count[event.name];
      if (event.name == "layer") ++layers[event.number];
      if (event.name == "allreduce") bytes += event.number;
      if (event.category == "kernel" || event.name == "allreduce") inside = inside && within_some(event, lane, "layer");
    }
    constexpr index_t steps = 1 + decode_steps;
    CHECK(inside);
    CHECK(static_cast<index_t>(layers.size()) == g.config.layers);
    for (const auto& [layer, times] : layers) CHECK(times == steps);
    CHECK(count["embed"] == steps);
    CHECK(count["lm_head"] == steps);
    CHECK(count["attend"] == steps * g.config.layers);
    CHECK(count["project_gated"] == steps * g.config.layers);
    // q, k and v at once, o_proj and down_proj of each layer, and lm_head.
    CHECK(count["project"] == steps * (3 * g.config.layers + 1));
    CHECK(count["barrier"] > 0);
    // Two sums a layer, by the first thread; f32 rows of the residual stream.
    const bool speaks = place.second == 0;
    const index_t rows = static_cast<index_t>(g.prompt.size()) + decode_steps;
    CHECK(count["allreduce"] == (speaks ? 2 * steps * g.config.layers : 0));
    CHECK(count["start allreduce"] == count["allreduce"]);
    CHECK(bytes == (speaks ? 2 * g.config.layers * rows * g.config.hidden * 4 : 0));
  }
  CHECK(split.compute > 0);
  CHECK(split.communication > 0);
  CHECK(split.waiting > 0);
}

TEST_CASE("an overlapping event would be found") {
  CHECK(nest({{"a", "", 0, 10, 0}, {"b", "", 2, 5, 0}, {"c", "", 5, 10, 0}, {"d", "", 11, 12, 0}}));
  CHECK_FALSE(nest({{"a", "", 0, 10, 0}, {"b", "", 5, 11, 0}}));
}

TEST_CASE("nothing is written down before a trace records") {
  const program::Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  for (const auto& [place, lane] : lanes_of(g, "headwise", false)) CHECK(lane.empty());
}

TEST_CASE("a lane that is full counts what it loses") {
  constexpr TraceName name{"work"};
  Trace trace(1, 2);
  trace.record(true);
  for (int i = 0; i < 5; ++i) const TraceScope scope(&trace.lane(0), name);
  CHECK(trace.lane(0).events().size() == 2);
  CHECK(trace.lane(0).lost() == 3);
  trace.clear();
  CHECK(trace.lane(0).events().empty());
}

TEST_CASE("traces go to rank 0 alone, one after the other") {
  const std::vector<std::string> texts = {"first", "", "the third"};
  const auto collected = InProcess::run(3, [&](Communicator comm) {
    auto [recorded, ledger] = record(comm);
    std::string all = "[";
    detail::collect_texts(recorded, texts[static_cast<std::size_t>(comm.rank())], ",", all);
    return std::pair{all, ledger->total().wire_bytes};
  });
  CHECK(collected[0].first == "[first,,the third");
  constexpr index_t sizes = 2 * sizeof(index_t);  // this rank's, to two others
  for (std::size_t r = 0; r < 3; ++r) {
    INFO("rank " << r);
    CHECK(collected[r].second == sizes + (r == 0 ? 0 : static_cast<index_t>(texts[r].size())));
    if (r > 0) CHECK(collected[r].first == "[");
  }
}

TEST_CASE("a trace that cannot be written is one error of all ranks") {
  const auto errors = InProcess::run(2, [](Communicator comm) -> std::string {
    try {
      write_trace(comm, Trace(1, 10), "/nowhere/trace.json");
    } catch (const AgreedError& error) {
      return error.what();
    }
    return "nothing";
  });
  CHECK(errors[0] == errors[1]);
  CHECK_THAT(errors[0], Catch::Contains("/nowhere/trace.json"));
}
