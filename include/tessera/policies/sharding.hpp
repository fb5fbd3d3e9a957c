#pragma once
// ShardingPolicy: who holds what, and where data moves. A policy is arithmetic (plan, layout) and four moves.

#include <concepts>
#include <string_view>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/policies/kv_cache.hpp>
#include <tessera/policies/limits.hpp>
#include <tessera/policies/softmax.hpp>
#include <tessera/policies/step.hpp>
#include <tessera/policies/traffic.hpp>

namespace tessera {

/// What a policy is made from.
struct ShardingContext {
  Communicator comm;
  ModelConfig config;
  Limits limits;
  std::vector<double> shares = {};  ///< one for each rank; empty: equal
  index_t inner = 1;                ///< ranks of the inner dimension of a two-dimensional mesh
  bool overlap = false;             ///< what travels is hidden behind what is computed, where the policy can

  [[nodiscard]] Ranks ranks() const { return {comm.rank(), comm.size(), shares, inner}; }
};

/// One way to split a step over ranks. The decoder layer is written in terms of its moves:
///
///     h  = gather(norm(x));  q, kv = project(h);  attend(q, kv, cache, o);  x += combine(project(o));
///     h  = gather(norm(x));  x += combine(mlp(h));  ...  rows = select(x)
///
/// Laws. The kept rows of all ranks cover the step's rows. Whatever the number of ranks, attend followed by the output
/// projection and combine adds to each kept row what one rank alone would add, up to rounding; ranks that keep the same
/// row hold the same bits. Every rank calls the same moves in the same order; every worker of a team calls each move.
/// The slice of a plan has the vocabulary that vocab_part gives, whose logits the model has.
template <class P>
concept PhasePolicy = requires(P phase, const ModelConfig& config, const Ranks& ranks, Worker& worker, const Step& step,
                               Activations x, ConstActivations in, KvCache& cache) {
  { P::name } -> std::convertible_to<std::string_view>;
  // Throws Error when the ranks are more than the policy can use.
  { P::check(config, ranks) } -> std::same_as<void>;
  // Arithmetic alone: rows and weights of one rank in a step of so many rows, and what it stores of the cache.
  { P::plan(config, ranks, index_t{}) } -> std::same_as<Plan>;
  { P::layout(config, ranks) } -> std::same_as<CacheLayout>;
  // Called by one thread before a step; then the moves, by every worker.
  { phase.begin(step) } -> std::same_as<void>;
  { phase.gather(worker, in) } -> std::same_as<ConstActivations>;
  // combine: started, so that it may travel while something else is computed, and finished by adding it to x: a row of
  // x is there for the worker whose share it is, and for the others once they have met.
  { phase.start_combine(worker, x) } -> std::same_as<void>;
  { phase.template finish_combine<ScalarBackend>(worker, x, x) } -> std::same_as<void>;
  { phase.select(worker, in) } -> std::same_as<ConstActivations>;
};

/// A sharding answers, for a step, with the phase policy that runs it. A phase policy that serves every step is one.
template <class S>
concept ShardingPolicy = requires(S sharding, const ModelConfig& config, const Ranks& ranks, const Step& step) {
  { S::name } -> std::convertible_to<std::string_view>;
  { S::decode_name } -> std::convertible_to<std::string_view>;  // of the policy that runs decode steps
  { S::check(config, ranks) } -> std::same_as<void>;
  // Arithmetic alone, of one rank: its rows and weights in a step, and what it stores of the cache.
  { S::plan(config, ranks, step) } -> std::same_as<Plan>;
  { S::layout(config, ranks) } -> std::same_as<CacheLayout>;
  // What memory is planned for: the most rows that a rank computes in a step, and the widest slice of the weights.
  { S::max_rows(config, ranks, Limits{}) } -> std::same_as<index_t>;
  { S::widest(config, ranks) } -> std::same_as<WeightSlice>;
  // Floats that it keeps for exchanges beside these, where one row of each sequence is wanted.
  { S::exchange_floats(config, ranks, Limits{}) } -> std::same_as<index_t>;
  // Query heads times keys that a rank's attention visits in a layer of the step.
  { S::pairs(config, ranks, step) } -> std::same_as<index_t>;
  // What a rank asks of its communicators in a layer of the step, and once in it to select rows.
  { S::traffic(config, ranks, step) } -> std::same_as<Traffic>;
  { S::selection_traffic(config, ranks, step) } -> std::same_as<Traffic>;
  sharding.visit(step, [](auto&) {});
};

/// A sharding that says that a step may be cut into two micro-batches at any row, so that the sums of each travel while
/// the other is computed. Law: each of them is a step of the policy, and asks its communicators for what it would
/// alone.
template <class S>
concept HidesSums = ShardingPolicy<S> && S::hides_sums;

}  // namespace tessera
