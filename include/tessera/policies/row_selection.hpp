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
    each_of(mine, wanted, [&](index_t i) {
      std::copy_n(x.row(mine.before(wanted[static_cast<std::size_t>(i)])), cols_, sent_.data() + sent++ * cols_);
    });
    for (std::size_t r = 0; r < counts_.size(); ++r) {
      counts_[r] = 0;
      each_of(rows_of(static_cast<index_t>(r)), wanted, [&](index_t) { counts_[r] += cols_; });
    }
    const auto n = static_cast<index_t>(wanted.size());
    comm.allgather<float>(sent_.span().first(static_cast<std::size_t>(sent * cols_)),
                          received_.span().first(static_cast<std::size_t>(n * cols_)), counts_);
    const float* from = received_.data();
    for (std::size_t r = 0; r < counts_.size(); ++r)
      each_of(rows_of(static_cast<index_t>(r)), wanted, [&](index_t i) {
        std::copy_n(from, cols_, ordered_.data() + i * cols_);
        from += cols_;
      });
    return ordered_.matrix(n, cols_);
  }

 private:
  /// Calls f(i) for each wanted[i] in `rows`, and looks at few others.
  template <class F>
  static void each_of(const RowSet& rows, std::span<const index_t> wanted, F&& f) {
    for (const Range& run : rows.runs) {
      auto at = std::lower_bound(wanted.begin(), wanted.end(), run.begin);
      for (; at != wanted.end() && *at < run.end; ++at) f(at - wanted.begin());
    }
  }

  index_t cols_;
  Buffer<float> sent_;
  Buffer<float> received_;
  Buffer<float> ordered_;
  std::vector<index_t> counts_;
};

}  // namespace tessera
