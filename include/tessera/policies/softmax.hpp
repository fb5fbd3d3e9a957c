#pragma once
// SoftmaxPolicy: how rows of scores become weights of values.

#include <concepts>
#include <string_view>

#include <tessera/kernels/attention_problem.hpp>
#include <tessera/parallel/team.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// Law: `attend<B>` writes, for every task, row and head, sum_j softmax_j(scale * q.k_j) v_j over the visible slots j,
/// and zeros for a row that sees none, as the double precision reference does up to rounding. Every worker of the team
/// calls it with the same arguments; the results are visible to all of them on return.
template <class S>
concept SoftmaxPolicy = requires(Worker& worker, const AttentionProblem& problem, Activations out) {
  { S::name } -> std::convertible_to<std::string_view>;
  { S::template attend<ScalarBackend>(worker, problem, out) } -> std::same_as<void>;
};

/// Law: states of disjoint sets of keys merge to the state of their union, in any grouping up to rounding:
/// `attend_more<B>` continues from the states it is given ((-inf, 0, 0) for none), and merge + normalize equals attend.
template <class S>
concept MergeableSoftmax = SoftmaxPolicy<S> &&
    requires(Worker& worker, const AttentionProblem& problem, SoftmaxStates states, Activations out) {
  { S::template attend_more<ScalarBackend>(worker, problem, states) } -> std::same_as<void>;
};

/// Law: `scores<B>` and `weigh<B>` are the two halves of attend (see StandardSoftmax for their layout), and
/// `normalize_row<B>(row, n)` between them turns all n scores of a row, in the order of positions, into weights.
template <class S>
concept GatherableSoftmax = SoftmaxPolicy<S> &&
    requires(Worker& worker, const AttentionProblem& problem, Activations out, float* row) {
  { S::template scores<ScalarBackend>(worker, problem, out) } -> std::same_as<void>;
  { S::template weigh<ScalarBackend>(worker, problem, out, out) } -> std::same_as<void>;
  { S::template normalize_row<ScalarBackend>(row, index_t{}) } -> std::same_as<void>;
};

}  // namespace tessera
