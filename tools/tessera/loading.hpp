#pragma once
// Brings mapped weights into memory before they are used: in the order of the file, which a disk likes better than the
// order in which threads come across them, and with something to show meanwhile.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <vector>

#include <tessera/comm/agree.hpp>
#include <tessera/models/weights.hpp>

#include "machine.hpp"

namespace tessera::tools {

/// Bytes of the mapping, by pages.
struct MappedPart {
  char* begin = nullptr;
  std::size_t bytes = 0;
};

/// The pages of all matrices, cut into pieces, in the order of the addresses.
[[nodiscard]] inline std::vector<MappedPart> pieces_of(const ModelWeights& weights) {
  constexpr std::size_t piece = std::size_t{8} << 20;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  std::vector<MappedPart> pieces;
  const auto add = [&](const WeightView& w) {
    auto at = reinterpret_cast<std::uintptr_t>(w.data) / page * page;
    const auto end = reinterpret_cast<std::uintptr_t>(w.at(w.rows, 0));
    for (; at < end; at += piece)
      pieces.push_back({reinterpret_cast<char*>(at), std::min<std::size_t>(piece, end - at)});
  };
  add(weights.embedding);
  if (weights.lm_head.data != weights.embedding.data) add(weights.lm_head);
  for (const LayerWeights& l : weights.layers)
    for (const WeightView* w : {&l.q_proj, &l.k_proj, &l.v_proj, &l.o_proj, &l.gate_proj, &l.up_proj, &l.down_proj})
      add(*w);
  std::sort(pieces.begin(), pieces.end(), [](const MappedPart& a, const MappedPart& b) { return a.begin < b.begin; });
  return pieces;
}

/// Whether some page of the part is not in memory.
[[nodiscard]] inline bool is_missing(const MappedPart& part) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> resident((part.bytes + page - 1) / page);
  if (::mincore(part.begin, part.bytes, resident.data()) != 0) return false;
  return std::any_of(resident.begin(), resident.end(), [](unsigned char r) { return (r & 1) == 0; });
}

/// Reads what is missing, each rank its share, while rank 0 calls progress(done, total) with bytes. Does nothing where
/// ranks are on several machines, which need a part each, or where memory has no room for all. Collective.
inline void load_into_memory(Communicator comm, const ModelWeights& weights, bool one_machine,
                             const std::function<void(index_t, index_t)>& progress) {
  if (!one_machine) return;
  std::vector<MappedPart> missing = pieces_of(weights);
  std::erase_if(missing, [](const MappedPart& part) { return !is_missing(part); });
  index_t total = 0, done = 0;
  for (const MappedPart& part : missing) total += static_cast<index_t>(part.bytes);
  const detail::TimeoutScope patient(comm, 0);  // a disk may be slow
  comm.barrier();                               // what one rank loads is not to look like there for the next
  char fits = total <= memory_of_machine().available ? 1 : 0;  // each rank looks at a moment of its own: rank 0 decides
  comm.broadcast(std::span(&fits, 1), 0);
  if (fits == 0) return;
  for (std::size_t i = 0; i < missing.size(); ++i) {
    const MappedPart& part = missing[i];
    if (static_cast<int>(i % static_cast<std::size_t>(comm.size())) == comm.rank()) {
      ::madvise(part.begin, part.bytes, MADV_WILLNEED);
      for (std::size_t at = 0; at < part.bytes; at += 4096)
        static_cast<void>(*static_cast<volatile char*>(part.begin + at));
    }
    done += static_cast<index_t>(part.bytes);
    if (comm.rank() == 0) progress(done, total);
  }
  comm.barrier();
}

}  // namespace tessera::tools
