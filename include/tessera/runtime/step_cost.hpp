#pragma once
// How long a step takes by its arithmetic, its bytes and its messages: an estimate to compare policies by.

#include <tessera/runtime/footprint.hpp>

namespace tessera {

/// What a rank's part of a machine and its link to the others can do.
struct Speeds {
  double flops = 50e9;        ///< floating-point operations per second of a rank
  double memory = 10e9;       ///< bytes per second that a rank reads
  double bandwidth = 1.25e9;  ///< bytes per second that leave a rank
  double latency = 50e-6;     ///< seconds from a rank to another
  double message = 1e-6;      ///< seconds that a rank is busy with a message, sending and receiving together
};

/// A step on its slowest rank; seconds of computing and of what travels, which are not hidden behind each other.
struct StepCost {
  double computing = 0;
  double travelling = 0;
  WireCost wire;  ///< of the rank that sends the most

  [[nodiscard]] double seconds() const { return computing + travelling; }
  StepCost& operator+=(const StepCost& more) {
    computing += more.computing, travelling += more.travelling;
    wire += more.wire;
    return *this;
  }
};

/// Numbers of keys that attention reads in a layer.
[[nodiscard]] inline double keys_read(const ShardingArithmetic& sharding, const ModelConfig& config, const Ranks& ranks,
                                      const Step& step) {
  if (step.is_decode()) {  // what the rank stores: a KV head once, however few of its query heads are here
    const CacheLayout stored = sharding.layout(config, ranks);
    index_t keys = 0;
    for (const Segment& s : step.segments) keys += stored.slots(s.sequence, s.position + s.count);
    return static_cast<double>(keys * stored.kv_heads.size() * config.head_dim);
  }
  // Once for the query heads of a group and the rows of a block, of about 64.
  const index_t queries = config.group() * std::min<index_t>(64, ceil_div(step.rows, std::ssize(step.segments)));
  return static_cast<double>(sharding.pairs(config, ranks, step) * config.head_dim) / static_cast<double>(queries);
}

/// Seconds that rank `ranks.rank` computes: the longer of multiplying and of reading, for each kind of work.
[[nodiscard]] inline double computing_seconds(const ShardingArithmetic& sharding, const ModelConfig& config,
                                              const Ranks& ranks, const Step& step, const BytesPerNumber& bytes,
                                              const Speeds& speeds) {
  const Plan plan = sharding.plan(config, ranks, step);
  const auto work = [&](double multiplied, double read) {
    return std::max(2 * multiplied / speeds.flops, read / speeds.memory);
  };
  const auto weights = static_cast<double>(layer_weights(config, plan.slice));
  const auto rows = static_cast<double>(plan.computed.size());
  const auto pairs = static_cast<double>(sharding.pairs(config, ranks, step) * config.head_dim);
  const double layer = (rows == 0 ? 0 : work(weights * rows, bytes.layers * weights)) +
                       work(2 * pairs, 2 * bytes.cached * keys_read(sharding, config, ranks, step));
  const auto head = static_cast<double>(config.hidden * plan.slice.vocab.size());
  const auto wanted = static_cast<double>(step.wanted.size());
  return static_cast<double>(config.layers) * layer +
         (step.wanted.empty() ? 0 : work(head * wanted, bytes.lm_head * head));
}

/// What rank `ranks.rank` sends in a step: in its layers, to hand on wanted rows, and to choose a token of each.
[[nodiscard]] inline WireCost wire_of_step(const ShardingArithmetic& sharding, const ModelConfig& config,
                                           const Ranks& ranks, const Step& step) {
  WireCost sum = config.layers * sharding.traffic(config, ranks, step).wire;
  sum += sharding.selection_traffic(config, ranks, step).wire;
  constexpr index_t candidate = 8;  // a logit and an id (runtime/vocabulary.hpp)
  const auto wanted = static_cast<index_t>(step.wanted.size());
  return sum += wire_cost(Collective::allgather, candidate * wanted * ranks.size, ranks.size);
}

/// The slowest rank's seconds and the largest sender's bytes, of ranks that share as `ranks` says.
[[nodiscard]] inline StepCost step_cost(const ShardingArithmetic& sharding, const ModelConfig& config,
                                        const Ranks& ranks, const Step& step, const BytesPerNumber& bytes,
                                        const Speeds& speeds) {
  StepCost cost;
  for (index_t r = 0; r < ranks.size; ++r) {
    const WireCost wire = wire_of_step(sharding, config, ranks.at(r), step);
    cost.computing = std::max(cost.computing, computing_seconds(sharding, config, ranks.at(r), step, bytes, speeds));
    cost.travelling = std::max(cost.travelling, static_cast<double>(wire.bytes) / speeds.bandwidth +
                                                    static_cast<double>(wire.rounds) * speeds.latency +
                                                    static_cast<double>(wire.messages) * speeds.message);
    if (wire.bytes >= cost.wire.bytes) cost.wire = wire;
  }
  return cost;
}

/// What people do with a model: prompts together in chunks, then tokens one after the other.
struct PlannedRequest {
  index_t sequences = 1;
  index_t prompt = 512;  ///< tokens of each
  index_t chunk = 512;   ///< tokens of all that a step of prefill takes
  index_t new_tokens = 128;
};

/// Reading the prompts.
[[nodiscard]] inline StepCost prefill_cost(const ShardingArithmetic& sharding, const ModelConfig& config,
                                           const Ranks& ranks, const PlannedRequest& request,
                                           const BytesPerNumber& bytes, const Speeds& speeds) {
  StepCost cost;
  const index_t each = std::max<index_t>(1, request.chunk / request.sequences);
  for (index_t done = 0; done < request.prompt; done += each) {
    const index_t count = std::min(each, request.prompt - done);
    const PlannedStep step(request.sequences, done, count, done + count == request.prompt);
    cost += step_cost(sharding, config, ranks, step.step(), bytes, speeds);
  }
  return cost;
}

/// A token of each sequence, in the middle of the new ones.
[[nodiscard]] inline StepCost decode_cost(const ShardingArithmetic& sharding, const ModelConfig& config,
                                          const Ranks& ranks, const PlannedRequest& request,
                                          const BytesPerNumber& bytes, const Speeds& speeds) {
  const PlannedStep step(request.sequences, request.prompt + request.new_tokens / 2, 1);
  return step_cost(sharding, config, ranks, step.step(), bytes, speeds);
}

}  // namespace tessera
