#pragma once
// The kernels that a model calls, for backends that are models of cost. Each has the operands of the kernel that it
// stands for; it is chosen because its constraint is the narrower one. A team has one worker here, and the machine
// model knows how many threads that stands for.

#include <array>

#include <tessera/kernels/attention.hpp>
#include <tessera/kernels/gemm.hpp>
#include <tessera/kernels/rope.hpp>
#include <tessera/kernels/rows.hpp>
#include <tessera/policies/stored_rows.hpp>
#include <tessera/simulate/cost_backend.hpp>

namespace tessera {

namespace detail {

/// Bytes of a matrix of floats.
[[nodiscard]] inline double float_bytes_of(index_t rows, index_t cols) {
  return static_cast<double>(rows * cols) * sizeof(float);
}

template <CostModel B>
void stream(double bytes, int meetings = 1) {
  B::account().spend(streaming_seconds(B::account().machine, bytes, meetings));
}

/// Of a kernel that works on what one thread has had from other ranks: the threads meet behind that, too.
inline constexpr int meetings_after_move = 2;

}  // namespace detail

template <CostModel B>
void project(Worker& worker, ConstActivations x, std::span<const Projection> projections) {
  const TraceScope scope(worker.lane(), trace_project, projections.front().out.cols);
  index_t outputs = 0, bytes = 0;
  for (const Projection& p : projections) {
    expect_shape(p.weight, p.out.cols, x.cols, "project: weight");
    expect_shape(p.out, x.rows, p.weight.rows, "project: out");
    outputs += p.weight.rows, bytes += p.weight.bytes();
  }
  B::account().spend(product_seconds(B::account().machine, x.rows, outputs, x.cols, bytes));
}

template <CostModel B>
void project_gated(Worker& worker, ConstActivations x, WeightView gate, WeightView up, Activations out) {
  const TraceScope scope(worker.lane(), trace_project_gated, 2 * out.cols);
  expect_shape(gate, out.cols, x.cols, "project_gated: gate");
  expect_shape(up, out.cols, x.cols, "project_gated: up");
  expect_shape(out, x.rows, gate.rows, "project_gated: out");
  const index_t bytes = gate.bytes() + up.bytes();
  B::account().spend(product_seconds(B::account().machine, x.rows, gate.rows + up.rows, x.cols, bytes));
}

template <CostModel B, class Begin, class Finish>
void attend_blocks(Worker& worker, const AttentionProblem& problem, KeyTiles, Begin&&, Finish&&) {
  const TraceScope scope(worker.lane(), trace_attend, problem.queries.rows);
  B::account().spend(attention_seconds(B::account().machine, problem));
}

template <CostModel B>
void rms_norm(Worker& worker, ConstActivations x, std::span<const float>, float, Activations) {
  const TraceScope scope(worker.lane(), trace_norm, x.rows);
  detail::stream<B>(2 * detail::float_bytes_of(x.rows, x.cols));
}

/// A table of one position: nobody looks at the others.
template <CostModel B>
[[nodiscard]] RopeTable rope_table(const RopeConfig& rope, index_t, index_t head_dim) {
  return {rope, 1, head_dim};
}

template <CostModel B>
void norm_and_rotate(Worker& worker, std::span<const Heads> parts, float, std::span<const index_t>, const RopeTable&) {
  const TraceScope scope(worker.lane(), trace_rotate, parts.front().x.rows);
  double bytes = 0;
  for (const Heads& part : parts) bytes += 2 * detail::float_bytes_of(part.x.rows, part.x.cols);
  detail::stream<B>(bytes);
}

template <CostModel B>
void add_rows(Worker&, Activations x, ConstActivations) {
  detail::stream<B>(3 * detail::float_bytes_of(x.rows, x.cols), detail::meetings_after_move);
}

template <CostModel B>
struct Packing<B> {
  static float* copy(const float*, index_t n, float* to) {
    B::account().spend(copying_seconds(B::account().machine, detail::float_bytes_of(1, n)));
    return to + n;
  }
  /// Of one row, which is in a cache.
  static void add(float*, const float*, index_t n) {
    B::account().spend(cached_copying_seconds(B::account().machine, 2 * detail::float_bytes_of(1, n)));
  }
};

template <CostModel B>
void widen_row(const WeightView& table, index_t, float*) {
  B::account().spend(detail::float_bytes_of(1, table.cols) / B::account().machine.memory);
}

template <CostModel B>
void round_as_stored(Worker&, Activations kv, index_t, CacheType type) {
  if (type != CacheType::f32) detail::stream<B>(2 * detail::float_bytes_of(kv.rows, kv.cols));
}

template <CostModel B>
void store_rows(Worker&, const Step& step, ConstActivations, std::span<const index_t>, Range, index_t head_dim,
                KvCache& cache, index_t) {
  const CacheLayout& layout = cache.layout();
  index_t stored = 0;
  for (const Segment& s : step.segments)
    stored += layout.slots(s.sequence, s.position + s.count) - layout.slots(s.sequence, s.position);
  const double bytes = 2 * detail::float_bytes_of(stored, 2 * layout.kv_heads.size() * head_dim);
  detail::stream<B>(std::max(bytes, 1.0), detail::meetings_after_move);  // the threads meet if there is nothing to do
}

template <CostModel B>
float* load_key(const KvCache& cache, index_t, index_t, index_t, index_t, float* to) {
  return copy_floats<B>(nullptr, cache.head_dim(), to);
}
template <CostModel B>
float* load_value(const KvCache& cache, index_t, index_t, index_t, index_t, float* to) {
  return copy_floats<B>(nullptr, cache.head_dim(), to);
}
template <CostModel B>
const float* store_key(const KvCache& cache, index_t, index_t, index_t, index_t, const float* from) {
  B::account().spend(copying_seconds(B::account().machine, detail::float_bytes_of(1, cache.head_dim())));
  return from + cache.head_dim();
}
template <CostModel B>
const float* store_value(const KvCache& cache, index_t layer, index_t sequence, index_t head, index_t slot,
                         const float* from) {
  return store_key<B>(cache, layer, sequence, head, slot, from);
}

template <CostModel B>
void reset(Worker&, const SoftmaxStates& states) {
  detail::stream<B>(detail::float_bytes_of(states.output.rows, states.output.cols));
}

template <CostModel B>
void normalize(Worker&, const SoftmaxStates& states, Activations) {
  detail::stream<B>(2 * detail::float_bytes_of(states.output.rows, states.output.cols));
}

template <CostModel B>
void merge_normalized(Worker&, std::span<const SoftmaxStates> parts, Activations out) {
  const double bytes = detail::float_bytes_of(out.rows, out.cols) * static_cast<double>(parts.size() + 1);
  detail::stream<B>(std::max(bytes, 1.0), detail::meetings_after_move);
}

}  // namespace tessera
