#pragma once
// One rank, no transport: the library without MPI.

#include <cstring>

#include <tessera/comm/communicator.hpp>

namespace tessera {

/// A group of one rank; every move is a copy, finished when it has started.
class Loopback {
 public:
  [[nodiscard]] int rank() const { return 0; }
  [[nodiscard]] int size() const { return 1; }
  [[nodiscard]] std::string_view name() const { return "loopback"; }
  [[nodiscard]] int machine() const { return 0; }

  Ticket start_allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t>) {
    return copy(mine, all);
  }
  Ticket start_alltoall(std::span<const std::byte> send, std::span<const index_t>, std::span<std::byte> receive,
                        std::span<const index_t>) {
    return copy(send, receive);
  }
  Ticket start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive, int source) {
    require(dest == source, "exchange on one rank: sends to ", dest, ", receives from ", source);
    return dest == no_rank ? Ticket{} : copy(send, receive);
  }
  [[nodiscard]] bool test(Ticket) { return true; }
  [[nodiscard]] Loopback split(int, int) { return {}; }

 private:
  static Ticket copy(std::span<const std::byte> from, std::span<std::byte> to) {
    require(from.size() == to.size(), "loopback: sends ", from.size(), " bytes, expects ", to.size());
    if (!from.empty() && from.data() != to.data()) std::memmove(to.data(), from.data(), from.size());
    return {};
  }
};

static_assert(Collectives<Loopback>);

}  // namespace tessera
