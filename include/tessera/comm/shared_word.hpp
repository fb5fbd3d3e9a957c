#pragma once
// A word of memory that the ranks of a machine share, for whom messages are out of reach: a signal handler.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#include <random>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/shared_segment.hpp>

namespace tessera {

/// Zero when it is made. A rank that cannot share memory with the first one of its machine has a word of its own.
class SharedWord {
 public:
  using Value = std::atomic<std::uint32_t>;
  static_assert(Value::is_always_lock_free);  // so that processes and signal handlers may use it

  /// Collective. Throws Error where not even a page of memory is to be had.
  [[nodiscard]] static SharedWord among(Communicator comm) {
    SharedSegment segment(sizeof(Place));
    std::random_device entropy;
    const Place* const place = new (segment.data()) Place{entropy(), {}};
    struct Offer {
      int machine;
      pid_t process;
      int file;
      std::uint32_t cookie;
    };
    const Offer mine{comm.machine(), ::getpid(), segment.file(), place->cookie};
    std::vector<Offer> all(static_cast<std::size_t>(comm.size()));
    comm.allgather<Offer>({&mine, 1}, std::span(all), std::vector<index_t>(all.size(), 1));
    const Offer& first =
        *std::find_if(all.begin(), all.end(), [&](const Offer& offer) { return offer.machine == mine.machine; });
    SharedSegment of_first;
    if (first.cookie != mine.cookie) {
      try {
        SharedSegment found(first.process, first.file, sizeof(Place));
        // Where processes are numbered anew (containers), another one's file may be found in its place.
        if (reinterpret_cast<const Place*>(found.data())->cookie == first.cookie) of_first = std::move(found);
      } catch (const Error&) {  // a word of its own, then
      }
    }
    comm.barrier();  // all have opened it
    if (of_first.data() != nullptr) segment = std::move(of_first);
    segment.close_file();
    return SharedWord(std::move(segment));
  }

  [[nodiscard]] Value& value() const { return reinterpret_cast<Place*>(segment_.data())->value; }

 private:
  struct Place {
    std::uint32_t cookie;
    Value value;
  };

  explicit SharedWord(SharedSegment segment) : segment_(std::move(segment)) {}

  SharedSegment segment_;
};

}  // namespace tessera
