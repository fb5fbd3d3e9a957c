#pragma once
// Where simulated ranks meet around what is timed: in no time, and at little cost of the machine that simulates.

#include <smpi/smpi.h>

#include <cstring>
#include <numeric>
#include <vector>

#include <simgrid/s4u/Barrier.hpp>

#include "simulated/smpi_transport.hpp"

namespace tessera::simulated {

/// Models Collectives, of all ranks together. They are in one process, and run one at a time: each says where what it
/// sends lies, all come, and each takes what it is to have. No message is simulated, and no second passes.
class MeetingTransport {
 public:
  MeetingTransport() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_), MPI_Comm_size(MPI_COMM_WORLD, &size_);
    if (table().sent.empty()) table() = {simgrid::s4u::Barrier::create(at(size_)), std::vector<Sent>(at(size_))};
  }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] std::string_view name() const { return "meeting"; }

  Ticket start_allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t> counts) {
    return meet({mine, {}}, [&] {
      for (std::size_t r = 0, begin = 0; r < counts.size(); ++r) {
        copy(table().sent[r].bytes, all.subspan(begin, at(counts[r])));
        begin += at(counts[r]);
      }
    });
  }
  Ticket start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                        std::span<std::byte> receive, std::span<const index_t> receive_counts) {
    return meet({send, send_counts}, [&] {
      for (std::size_t r = 0, begin = 0; r < receive_counts.size(); ++r) {
        const auto [bytes, counts] = table().sent[r];
        const index_t before = std::accumulate(counts.begin(), counts.begin() + rank_, index_t{0});
        copy(bytes.subspan(at(before), at(counts[at(rank_)])), receive.subspan(begin, at(receive_counts[r])));
        begin += at(receive_counts[r]);
      }
    });
  }
  Ticket start_exchange(std::span<const std::byte> send, int, std::span<std::byte> receive, int source) {
    return meet({send, {}}, [&] {
      if (source != no_rank) copy(table().sent[at(source)].bytes, receive);
    });
  }
  [[nodiscard]] bool test(Ticket) { return true; }
  [[nodiscard]] MeetingTransport split(int, int) { fail("a meeting is one of all ranks"); }

 private:
  struct Sent {
    std::span<const std::byte> bytes;
    std::span<const index_t> counts;
  };
  struct Table {
    simgrid::s4u::BarrierPtr barrier;
    std::vector<Sent> sent;  // of each rank
  };
  [[nodiscard]] static Table& table() {
    static Table table;
    return table;
  }
  template <class N>
  [[nodiscard]] static std::size_t at(N n) {
    return static_cast<std::size_t>(n);
  }

  template <class Take>
  Ticket meet(Sent mine, Take&& take) {
    settle_account();
    table().sent[at(rank_)] = mine;
    table().barrier->wait();
    take();
    table().barrier->wait();  // nobody changes what others still read
    return {};
  }
  static void copy(std::span<const std::byte> from, std::span<std::byte> to) {
    require(from.size() == to.size(), "a meeting: ", from.size(), " bytes come where ", to.size(), " are expected");
    if (!from.empty() && from.data() != to.data()) std::memmove(to.data(), from.data(), from.size());
  }

  int rank_ = 0;
  int size_ = 1;
};

static_assert(Collectives<MeetingTransport>);

}  // namespace tessera::simulated
