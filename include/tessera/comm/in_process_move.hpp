#pragma once
// One rank's part in a move between threads: what it expects of the others, and what it takes from their memory.

#include <cstring>

#include <tessera/comm/in_process_group.hpp>
#include <tessera/comm/sum.hpp>

namespace tessera::in_process {

/// What a rank keeps of its own move.
struct Local {
  Move move{};
  index_t generation = 0;
  bool busy = false;
  bool copied = false;
  bool lent = false;  ///< the others read this rank's own memory
  std::byte* receive = nullptr;
  std::vector<index_t> counts;
  std::span<float> sum;
  index_t first = 0;
  index_t expected = 0;
  int source = no_rank;
};

/// Throws Error unless what all ranks have posted fits to what `rank` expects.
inline void check(const Local& local, const Slot& slot, int rank) {
  const auto size = static_cast<int>(slot.posts.size());
  const auto self = static_cast<std::size_t>(rank);
  const auto sizes_agree = [&](int from, index_t found, index_t expected) {
    require(found == expected, name_of(local.move), ": rank ", rank, " of ", size, " expects ", expected,
            " bytes of rank ", from, ", which sends ", found);
  };
  for (int r = 0; r < size; ++r) {
    const auto i = static_cast<std::size_t>(r);
    const Post& post = slot.posts[i];
    require(post.move == local.move, "rank ", rank, " of ", size, " is in ", name_of(local.move), ", rank ", r, " in ",
            name_of(post.move));
    switch (local.move) {
      case Move::allgather: sizes_agree(r, post.bytes, local.counts[i]); break;
      case Move::alltoall: sizes_agree(r, post.send_begin[self + 1] - post.send_begin[self], local.counts[i]); break;
      case Move::exchange:
        require((post.dest == rank) == (local.source == r), "exchange: rank ", r, " sends to ", post.dest, ", rank ",
                rank, " of ", size, " receives from ", local.source);
        if (r == local.source) sizes_agree(r, post.bytes, local.expected);
        break;
      case Move::reduce: sizes_agree(r, post.bytes, local.expected); break;
    }
  }
}

/// Takes what belongs to `rank` out of the memory that the others have posted.
inline void take(const Local& local, const Slot& slot, int rank) {
  const auto self = static_cast<std::size_t>(rank);
  std::byte* to = local.receive;
  const auto take_bytes = [&](const std::byte* from, index_t bytes) {
    if (bytes != 0 && from != to) std::memcpy(to, from, static_cast<std::size_t>(bytes));  // equal: already in place
    to += bytes;
  };
  switch (local.move) {
    case Move::allgather:
      for (const Post& post : slot.posts) take_bytes(post.send, post.bytes);
      return;
    case Move::alltoall:
      for (const Post& post : slot.posts)
        take_bytes(post.send + post.send_begin[self], post.send_begin[self + 1] - post.send_begin[self]);
      return;
    case Move::exchange:
      if (local.source != no_rank) take_bytes(slot.posts[static_cast<std::size_t>(local.source)].send, local.expected);
      return;
    case Move::reduce:
      sum_in_rank_order(
          static_cast<int>(slot.posts.size()),
          [&](int r) {
            return reinterpret_cast<const float*>(slot.posts[static_cast<std::size_t>(r)].send) + local.first;
          },
          local.sum);
  }
}

}  // namespace tessera::in_process
