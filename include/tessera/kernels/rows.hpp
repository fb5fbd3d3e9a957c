#pragma once
// Rows moved and added: the residual's sum, and rows of a stored table widened to f32.

#include <algorithm>

#include <tessera/core/weight_format.hpp>
#include <tessera/parallel/team.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// What a policy packs, unpacks and adds with, on one thread: a type, for a call that names no type of ours finds no
/// overload that is declared later (simulate/cost_kernels.hpp has one for models of cost).
template <SimdBackend B>
struct Packing {
  static float* copy(const float* from, index_t n, float* to) { return std::copy_n(from, n, to); }
  static void add(float* x, const float* y, index_t n) {
    constexpr index_t W = B::width;
    index_t i = 0;
    for (; i + W <= n; i += W) B::store(x + i, B::add(B::load(x + i), B::load(y + i)));
    if (i < n) B::store_partial(x + i, B::add(B::load_partial(x + i, n - i), B::load_partial(y + i, n - i)), n - i);
  }
};
/// x += y, n floats, on one thread.
template <SimdBackend B>
void add_floats(float* x, const float* y, index_t n) {
  Packing<B>::add(x, y, n);
}

/// x += y, element by element.
template <SimdBackend B>
void add_rows(Worker& worker, Activations x, ConstActivations y) {
  const Range mine = worker.share(x.rows);
  for (index_t r = mine.begin; r < mine.end; ++r) add_floats<B>(x.row(r), y.row(r), x.cols);
  worker.barrier();
}

/// n floats to `to`; returns what follows them there.
template <SimdBackend B>
float* copy_floats(const float* from, index_t n, float* to) {
  return Packing<B>::copy(from, n, to);
}

/// Row `row` of a stored table, widened to f32.
template <SimdBackend B>
void widen_row(const WeightView& table, index_t row, float* out) {
  constexpr index_t W = B::width;
  if (is_blocks(table.dtype)) return decode_row(table, row, out);
  with_type_of(table.dtype, [&](auto type) {
    const auto* in = table.row_as<decltype(type)>(row);
    index_t i = 0;
    for (; i + W <= table.cols; i += W) B::store(out + i, B::load(in + i));
    if (i < table.cols) B::store_partial(out + i, B::load_partial(in + i, table.cols - i), table.cols - i);
  });
}

}  // namespace tessera
