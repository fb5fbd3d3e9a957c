#pragma once
// The parts of one worker's share of work, which it takes from the front while others that are done take from the back.

#include <atomic>
#include <cstdint>
#include <optional>

#include <tessera/core/types.hpp>

namespace tessera {

/// Numbers [begin, end) of parts, each handed out once. One thread owns the queue; any thread takes from it.
class alignas(64) PartQueue {
 public:
  /// By the owner, while the queue is empty.
  void fill(index_t parts) { range_.store(pack(0, static_cast<std::uint32_t>(parts)), std::memory_order_release); }
  void clear() { fill(0); }

  std::optional<index_t> take_first() {
    return take([](std::uint32_t& begin, std::uint32_t&) { return begin++; });
  }
  std::optional<index_t> take_last() {
    return take([](std::uint32_t&, std::uint32_t& end) { return --end; });
  }

 private:
  static std::uint64_t pack(std::uint32_t begin, std::uint32_t end) { return std::uint64_t{end} << 32 | begin; }

  template <class Choose>
  std::optional<index_t> take(Choose&& choose) {
    std::uint64_t seen = range_.load(std::memory_order_acquire);
    while (true) {
      auto begin = static_cast<std::uint32_t>(seen);
      auto end = static_cast<std::uint32_t>(seen >> 32);
      if (begin >= end) return std::nullopt;
      const index_t part = choose(begin, end);
      if (range_.compare_exchange_weak(seen, pack(begin, end), std::memory_order_acq_rel, std::memory_order_acquire))
        return part;
    }
  }

  std::atomic<std::uint64_t> range_{0};
};

}  // namespace tessera
