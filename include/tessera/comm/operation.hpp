#pragma once
// The bookkeeping of operations under way: slots that are used again, and checked counts.

#include <memory>
#include <string_view>
#include <vector>

#include <tessera/comm/operations.hpp>
#include <tessera/core/buffer.hpp>
#include <tessera/core/partition.hpp>

namespace tessera::detail {

[[nodiscard]] inline std::size_t at(index_t i) { return static_cast<std::size_t>(i); }

template <class Count>
[[nodiscard]] index_t float_bytes(Count floats) {
  return static_cast<index_t>(floats) * static_cast<index_t>(sizeof(float));
}

/// Memory that grows when a larger operation is first asked for, and is otherwise handed out again.
class GrowingBuffer {
 public:
  [[nodiscard]] std::span<float> floats(index_t count) {
    if (memory_.size() < count) memory_ = Buffer<float>(count);
    return memory_.span().first(at(count));
  }
  [[nodiscard]] std::span<std::byte> bytes(index_t count) {
    return std::as_writable_bytes(floats(ceil_div(count, 4))).first(at(count));
  }
  [[nodiscard]] const float* data() const { return memory_.data(); }

 private:
  Buffer<float> memory_;
};

/// Operations of one kind under way: a slot is busy from claim to release, and its number is the operation's.
template <class Operation>
class OperationSlots {
 public:
  struct Claimed {
    int id;
    Operation& operation;
  };
  [[nodiscard]] Claimed claim() {
    std::size_t id = 0;
    while (id < slots_.size() && slots_[id]->busy) ++id;
    if (id == slots_.size()) slots_.push_back(std::make_unique<Slot>());
    slots_[id]->busy = true;
    return {static_cast<int>(id), slots_[id]->operation};
  }
  [[nodiscard]] Operation& operator[](int id) { return slots_[at(id)]->operation; }
  void release(int id) { slots_[at(id)]->busy = false; }

 private:
  struct Slot {
    bool busy = false;
    Operation operation;
  };
  std::vector<std::unique_ptr<Slot>> slots_;
};

/// Throws Error unless there is one count for each rank, they add up to `total`, and this rank's is `mine` (unless -1).
inline void check_counts(std::string_view what, int rank, int size, std::span<const index_t> counts, index_t total,
                         index_t mine = -1) {
  require(counts.size() == at(size), what, ": expected one count for each of ", size, " ranks, found ", counts.size());
  index_t sum = 0;
  for (const index_t count : counts) {
    require(count >= 0, what, ": expected counts >= 0, found ", count);
    sum += count;
  }
  require(sum == total, what, ": the counts add up to ", sum, ", the buffer holds ", total, " (rank ", rank, " of ",
          size, ")");
  require(mine < 0 || counts[at(rank)] == mine, what, ": expected ", counts[at(rank)], " of rank ", rank, ", found ",
          mine);
}

/// counts[r] := the r-th of `size` parts of n, in units of `grain`, times `bytes_each`.
inline void slice_counts(index_t n, int size, index_t grain, index_t bytes_each, std::vector<index_t>& counts) {
  counts.resize(at(size));
  for (int r = 0; r < size; ++r) counts[at(r)] = partition(n, size, r, grain).size() * bytes_each;
}

}  // namespace tessera::detail
