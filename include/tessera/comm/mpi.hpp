#pragma once
// Ranks as MPI processes: started MPI operations, polled; every return code checked.

#include <mpi.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <deque>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/mpi_group.hpp>
#include <tessera/comm/mpi_threads.hpp>
#include <tessera/parallel/cores.hpp>

namespace tessera {

/// Which allreduce is used: our own sums in rank order and gives the same bits always; MPI's picks an order by size and
/// layout.
enum class Allreduce : std::uint8_t { own, mpi };

/// How a communicator uses MPI.
struct MpiOptions {
  Allreduce allreduce = Allreduce::own;
  index_t largest_message = INT_MAX;  // bytes in one MPI call; MPI-3 counts are int. Smaller for tests.
};

/// One rank of an MPI communicator, which is duplicated: our messages never meet the caller's. The caller initialises
/// MPI and finalises it after the last communicator is gone. MPI_THREAD_FUNNELED is enough for models on the main
/// thread, MPI_THREAD_SERIALIZED for models on any thread that take turns; several threads with a model each, and
/// operations in the background, need MPI_THREAD_MULTIPLE. Collective. Errors: MPI's own text; a thread that must not
/// call MPI.
class Mpi {
 public:
  explicit Mpi(MPI_Comm parent = MPI_COMM_WORLD, MpiOptions options = {}) : Mpi(Owned{}, duplicate(parent), options) {}

  /// All processes, those of a machine one after the other in whatever order the launcher placed them: so neighbours,
  /// which are the inner dimension of a mesh, share a machine. The first stays the first.
  [[nodiscard]] static Mpi by_machine(MpiOptions options = {}) {
    Mpi launched(MPI_COMM_WORLD, options);
    return launched.split(0, launched.machine());
  }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] std::string_view name() const { return "mpi"; }
  [[nodiscard]] MPI_Comm comm() const { return comm_; }
  [[nodiscard]] bool has_core_each() const { return has_core_each_; }
  /// For operations in the background: they call MPI from a thread of their own, beside others.
  void be_patient() {
    require(threads_ == MPI_THREAD_MULTIPLE,
            "operations in the background call MPI from a thread of their own: initialise it with MPI_THREAD_MULTIPLE");
    has_core_each_ = false;
  }
  /// The same number on ranks of one machine, another on every other.
  [[nodiscard]] int machine() const { return machine_; }

  Ticket start_allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t> counts) {
    const detail::MpiCall call(threads_);
    const auto [ticket, move] = claim();
    move.receive_begin.assign(1, 0);
    for (const index_t count : counts) move.receive_begin.push_back(move.receive_begin.back() + count);
    const index_t my_begin = move.receive_begin[at(rank_)];
    const bool in_place = mine.data() == all.data() + my_begin;
    if (static_cast<index_t>(all.size()) > options_.largest_message) {  // the same on all ranks
      if (!in_place) copy(mine, all.subspan(at(my_begin), mine.size()));
      for (int step = 1; step < size_; ++step) {
        const int dest = (rank_ + step) % size_, source = (rank_ + size_ - step) % size_;
        receive(move, all.subspan(at(move.receive_begin[at(source)]), at(counts[at(source)])), source);
        send(move, mine, dest);
      }
      return ticket;
    }
    move.int_counts.assign(counts.begin(), counts.end());
    move.int_begin.assign(move.receive_begin.begin(), move.receive_begin.end() - 1);
    move.requests.push_back(MPI_REQUEST_NULL);
    check_mpi(
        MPI_Iallgatherv(in_place ? MPI_IN_PLACE : mine.data(), static_cast<int>(mine.size()), MPI_BYTE, all.data(),
                        move.int_counts.data(), move.int_begin.data(), MPI_BYTE, comm_, &move.requests.back()),
        "MPI_Iallgatherv");
    return ticket;
  }

  /// Messages between pairs: a pair sees the size of its own piece only, so a piece too large for one call can be cut
  /// without asking the others. (MPI_Ialltoallv would need one choice of all ranks, and does the same inside.)
  Ticket start_alltoall(std::span<const std::byte> send_all, std::span<const index_t> send_counts,
                        std::span<std::byte> receive_all, std::span<const index_t> receive_counts) {
    const detail::MpiCall call(threads_);
    const Claimed claimed = claim();
    Move& move = claimed.move;
    move.send_begin.assign(1, 0);
    for (const index_t count : send_counts) move.send_begin.push_back(move.send_begin.back() + count);
    move.receive_begin.assign(1, 0);
    for (const index_t count : receive_counts) move.receive_begin.push_back(move.receive_begin.back() + count);
    const auto outgoing = [&](int r) { return send_all.subspan(at(move.send_begin[at(r)]), at(send_counts[at(r)])); };
    const auto incoming = [&](int r) {
      return receive_all.subspan(at(move.receive_begin[at(r)]), at(receive_counts[at(r)]));
    };
    copy(outgoing(rank_), incoming(rank_));
    for (int step = 1; step < size_; ++step) {
      receive(move, incoming((rank_ + size_ - step) % size_), (rank_ + size_ - step) % size_);
      send(move, outgoing((rank_ + step) % size_), (rank_ + step) % size_);
    }
    return claimed.ticket;
  }

  Ticket start_exchange(std::span<const std::byte> send_one, int dest, std::span<std::byte> receive_one, int source) {
    const detail::MpiCall call(threads_);
    const auto [ticket, move] = claim();
    require((dest == rank_) == (source == rank_), "exchange: rank ", rank_, " of ", size_, " sends to ", dest,
            " and receives from ", source);
    if (dest == rank_) {
      copy(send_one, receive_one);
      return ticket;
    }
    if (source != no_rank) receive(move, receive_one, source);
    if (dest != no_rank) send(move, send_one, dest);
    return ticket;
  }

  [[nodiscard]] bool has_own_allreduce() const { return options_.allreduce == Allreduce::mpi; }

  Ticket start_own_allreduce(std::span<float> inout) {
    const detail::MpiCall call(threads_);
    const auto [ticket, move] = claim();
    while (!inout.empty()) {
      const auto part = inout.first(std::min<std::size_t>(inout.size(), at(largest_message()) / sizeof(float)));
      move.requests.push_back(MPI_REQUEST_NULL);
      check_mpi(MPI_Iallreduce(MPI_IN_PLACE, part.data(), static_cast<int>(part.size()), MPI_FLOAT, MPI_SUM, comm_,
                               &move.requests.back()),
                "MPI_Iallreduce");
      inout = inout.subspan(part.size());
    }
    return ticket;
  }

  [[nodiscard]] bool test(Ticket ticket) {
    const detail::MpiCall call(threads_);
    Move& move = moves_[static_cast<std::size_t>(ticket)];
    int finished = 0;
    check_mpi(MPI_Testall(static_cast<int>(move.requests.size()), move.requests.data(), &finished, MPI_STATUSES_IGNORE),
              "MPI_Testall");
    if (finished != 0) move.busy = false;
    return finished != 0;
  }

  [[nodiscard]] Mpi split(int color, int key) {
    const detail::MpiCall call(threads_);
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(comm_, color, key, &part), "MPI_Comm_split");
    return Mpi(Owned{}, part, *this);
  }

 private:
  struct Owned {};
  struct Move {
    bool busy = false;
    std::vector<MPI_Request> requests;
    std::vector<int> int_counts, int_begin;  // read by MPI until the move has finished
    std::vector<index_t> send_begin, receive_begin;
  };
  struct Claimed {
    Ticket ticket;
    Move& move;
  };

  /// A part of `whole`, which knows already who is on which machine and whether each has a core: the others still want
  /// theirs. Asking again would block, and ranks that share cores poll for milliseconds in every blocking call.
  Mpi(Owned, MPI_Comm owned, const Mpi& whole)
      : comm_(owned),
        options_(whole.options_),
        threads_(detail::MpiCall::level()),
        machine_(whole.machine_),
        has_core_each_(whole.has_core_each_) {
    find_place();
  }

  Mpi(Owned, MPI_Comm owned, MpiOptions options) : comm_(owned), options_(options), threads_(detail::MpiCall::level()) {
    find_place();
    MPI_Comm machine = MPI_COMM_NULL;
    int ranks_here = 1;
    check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine), "MPI_Comm_split_type");
    check_mpi(MPI_Comm_size(machine, &ranks_here), "MPI_Comm_size");
    check_mpi(MPI_Allreduce(&rank_, &machine_, 1, MPI_INT, MPI_MIN, machine), "MPI_Allreduce");
    cpu_set_t cores = affinity_mask();  // of all ranks here: the launcher may have bound each to a core of its own
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, &cores, sizeof cores, MPI_BYTE, MPI_BOR, machine), "MPI_Allreduce");
    check_mpi(MPI_Comm_free(&machine), "MPI_Comm_free");
    has_core_each_ = ranks_here <= physical_cores(cores);
  }

  void find_place() {
    check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
  }

  [[nodiscard]] static MPI_Comm duplicate(MPI_Comm parent) {
    require(detail::mpi_is_up(), "MPI is not initialised (or already finalised): call MPI_Init_thread first");
    const detail::MpiCall call(detail::MpiCall::level());
    MPI_Comm copy = MPI_COMM_NULL;
    check_mpi(MPI_Comm_dup(parent, &copy), "MPI_Comm_dup");
    return copy;
  }
  static void check_mpi(int code, std::string_view call) { detail::check_mpi(code, call); }

  template <class Integer>
  [[nodiscard]] static std::size_t at(Integer i) {
    return static_cast<std::size_t>(i);
  }
  [[nodiscard]] index_t largest_message() const { return std::max<index_t>(options_.largest_message, 64); }

  static void copy(std::span<const std::byte> from, std::span<std::byte> to) {
    require(from.size() == to.size(), "a rank sends itself ", from.size(), " bytes and expects ", to.size());
    if (!from.empty()) std::memmove(to.data(), from.data(), from.size());
  }

  [[nodiscard]] Claimed claim() {
    std::size_t i = 0;
    while (i < moves_.size() && moves_[i].busy) ++i;
    if (i == moves_.size()) moves_.emplace_back();
    moves_[i].busy = true;
    moves_[i].requests.clear();
    return {static_cast<Ticket>(i), moves_[i]};
  }

  // One tag is enough: messages of a pair arrive in the order in which they were started, and both start alike.
  void send(Move& move, std::span<const std::byte> data, int dest) {
    while (!data.empty()) {
      const auto part = data.first(std::min(data.size(), at(largest_message())));
      move.requests.push_back(MPI_REQUEST_NULL);
      check_mpi(MPI_Isend(part.data(), static_cast<int>(part.size()), MPI_BYTE, dest, 0, comm_, &move.requests.back()),
                "MPI_Isend");
      data = data.subspan(part.size());
    }
  }
  void receive(Move& move, std::span<std::byte> data, int source) {
    while (!data.empty()) {
      const auto part = data.first(std::min(data.size(), at(largest_message())));
      move.requests.push_back(MPI_REQUEST_NULL);
      check_mpi(
          MPI_Irecv(part.data(), static_cast<int>(part.size()), MPI_BYTE, source, 0, comm_, &move.requests.back()),
          "MPI_Irecv");
      data = data.subspan(part.size());
    }
  }

  detail::MpiGroup comm_;
  MpiOptions options_;
  int threads_;  // what MPI_Init_thread provided
  int rank_ = 0;
  int size_ = 1;
  int machine_ = 0;
  bool has_core_each_ = false;
  std::deque<Move> moves_;  // a deque: MPI holds pointers into it while moves are added
};

static_assert(AllreducingCollectives<Mpi> && PatientCollectives<Mpi> && MachineAwareCollectives<Mpi>);

}  // namespace tessera
