#pragma once
// Rows that are spread over ranks, given to all of them: how the final norm and lm_head get the rows they are asked
// for.

#include <algorithm>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/buffer.hpp>
#include <tessera/policies/plan.hpp>

namespace tessera {

/// Hands the wanted rows that are spread over the ranks of `comm` to all of them: one allgather.
/// `rows_of(r)` are the step rows that rank r holds; `wanted` ascends and lies in their union.
class RowSelection {
 public:
  RowSelection(index_t max_rows, index_t cols, index_t ranks)
      : cols_(cols),
        sent_(max_rows * cols),
        received_(max_rows * cols),
        ordered_(max_rows * cols),
        counts_(static_cast<std::size_t>(ranks)) {}

  /// Of the buffers, when `wanted` rows are asked for at a time.
  [[nodiscard]] static constexpr index_t exchange_floats(index_t wanted, index_t cols) { return 3 * wanted * cols; }

  template <class RowsOf>
  ConstActivations select(Communicator& comm, ConstActivations x, std::span<const index_t> wanted, RowsOf&& rows_of) {
    const RowSet mine = rows_of(comm.rank());
    index_t sent = 0;
    for (const index_t t : wanted)
      if (mine.contains(t)) std::copy_n(x.row(mine.before(t)), cols_, sent_.data() + sent++ * cols_);
    for (std::size_t r = 0; r < counts_.size(); ++r) {
      const RowSet rows = rows_of(static_cast<index_t>(r));
      counts_[r] = cols_ * std::count_if(wanted.begin(), wanted.end(), [&](index_t t) { return rows.contains(t); });
    }
    const auto n = static_cast<index_t>(wanted.size());
    comm.allgather<float>(sent_.span().first(static_cast<std::size_t>(sent * cols_)),
                          received_.span().first(static_cast<std::size_t>(n * cols_)), counts_);
    const float* from = received_.data();
    for (std::size_t r = 0; r < counts_.size(); ++r) {
      const RowSet rows = rows_of(static_cast<index_t>(r));
      for (index_t i = 0; i < n; ++i)
        if (rows.contains(wanted[static_cast<std::size_t>(i)])) {
          std::copy_n(from, cols_, ordered_.data() + i * cols_);
          from += cols_;
        }
    }
    return ordered_.matrix(n, cols_);
  }

 private:
  index_t cols_;
  Buffer<float> sent_;
  Buffer<float> received_;
  Buffer<float> ordered_;
  std::vector<index_t> counts_;
};

}  // namespace tessera
