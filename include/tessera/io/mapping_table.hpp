#pragma once
// Which file is mapped where, in a form that a signal handler may read: fixed slots of atomics, no lock, no memory.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tessera::detail {

/// Law: `end` is stored last and cleared first, so that a reader who sees an `end` sees its begin and path as well.
struct MappingSlot {
  std::atomic<bool> taken = false;
  std::atomic<std::uintptr_t> begin = 0;
  std::atomic<std::uintptr_t> end = 0;
  std::atomic<const char*> path = nullptr;
};

// A mapping beyond the last slot works as any other; only a bus error in it is reported without the file's name.
inline std::array<MappingSlot, 512> mapping_table;

/// Enters [begin, begin + bytes); `path` stays valid until the slot is left. Returns null when the table is full.
inline MappingSlot* enter_mapping(const void* begin, std::size_t bytes, const char* path) {
  for (MappingSlot& slot : mapping_table) {
    if (slot.taken.exchange(true)) continue;
    slot.begin = reinterpret_cast<std::uintptr_t>(begin);
    slot.path = path;
    slot.end = reinterpret_cast<std::uintptr_t>(begin) + bytes;
    return &slot;
  }
  return nullptr;
}

inline void leave_mapping(MappingSlot* slot) {
  if (slot == nullptr) return;
  slot->end = 0;
  slot->path = nullptr;
  slot->taken = false;
}

/// The slot whose mapping holds `address`, or null. Async-signal-safe.
inline const MappingSlot* find_mapping(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  for (const MappingSlot& slot : mapping_table)
    if (at < slot.end && at >= slot.begin) return &slot;
  return nullptr;
}

}  // namespace tessera::detail
