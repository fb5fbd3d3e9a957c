#pragma once
// Ranks of a simulation: SMPI's processes, whose clock moves only with what they send and with what they owe.

#include <mpi.h>
#include <smpi/smpi.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <simgrid/s4u/Actor.hpp>
#include <simgrid/s4u/Exec.hpp>
#include <simgrid/s4u/Host.hpp>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/mpi_group.hpp>
#include <tessera/core/trace.hpp>
#include <tessera/simulate/cost_backend.hpp>

namespace tessera::simulated {

/// The account of the rank that runs now: all of them share one thread, and SMPI numbers their actors from 1.
inline CostAccount& account_of_actor() {
  static std::vector<std::unique_ptr<CostAccount>> accounts;
  const auto id = static_cast<std::size_t>(simgrid::s4u::this_actor::get_pid());
  if (accounts.size() <= id) accounts.resize(id + 1);
  if (accounts[id] == nullptr) accounts[id] = std::make_unique<CostAccount>();
  return *accounts[id];
}

/// Cores that the ranks of all hosts have together, as those of tools/netlab do: hosts core-0, core-1, ... of the
/// platform, which the ranks have in turn. Ranks of one core share its time. Without such hosts each rank has cores of
/// its own.
class SharedCores {
 public:
  SharedCores() {
    while (simgrid::s4u::Host* core = simgrid::s4u::Host::by_name_or_null("core-" + std::to_string(cores_.size())))
      cores_.push_back(core);
    if (!cores_.empty()) of_a_byte = number("of_a_byte"), patience = number("patience");
  }

  double of_a_byte = 0;  ///< seconds of a core for each byte that a rank sends or receives
  double patience = 0;   ///< seconds for which a waiting rank keeps asking before it sleeps

  [[nodiscard]] bool exist() const { return !cores_.empty(); }
  /// So many seconds of the core of the rank that runs now, taken as others leave them.
  [[nodiscard]] simgrid::s4u::ExecPtr start(double seconds) const {
    const auto actor = static_cast<std::size_t>(simgrid::s4u::this_actor::get_pid());
    simgrid::s4u::Host* const core = cores_[(actor - 1) % cores_.size()];
    simgrid::s4u::ExecPtr work = simgrid::s4u::this_actor::exec_init(seconds * core->get_speed());
    work->set_host(core)->start();
    return work;
  }

 private:
  [[nodiscard]] double number(const char* name) const {
    const char* const text = cores_.front()->get_property(name);
    require(text != nullptr, "platform: core-0 has no ", name);
    return std::stod(text);
  }
  std::vector<simgrid::s4u::Host*> cores_;
};

inline const SharedCores& shared_cores() {
  static const SharedCores cores;
  return cores;
}

/// Lets this rank's clock catch up with what it has computed.
inline void settle_account() {
  const double owed = std::exchange(account_of_actor().owed, 0.0);
  if (owed <= 0) return;
  if (shared_cores().exist())
    shared_cores().start(owed)->wait();
  else
    simgrid::s4u::this_actor::sleep_for(owed);
}

/// A rank that waits for messages of so many bytes, sent and received together: what they cost of the cores, and what
/// asking for them does, where these are shared.
class Waiting {
 public:
  explicit Waiting(index_t bytes) {
    if (!shared_cores().exist()) return;
    carrying_ = shared_cores().start(static_cast<double>(bytes) * shared_cores().of_a_byte);
    asking_ = shared_cores().start(shared_cores().patience);
  }
  /// What was waited for is here.
  void end() {
    if (asking_ == nullptr) return;
    asking_->cancel();
    carrying_->wait();
  }

 private:
  simgrid::s4u::ExecPtr carrying_, asking_;
};

/// Simulated nanoseconds of this rank.
inline std::int64_t simulated_nanoseconds() {
  settle_account();
  return static_cast<std::int64_t>(MPI_Wtime() * 1e9);
}

/// What arrives of a message. Activations are simulated: of theirs only the time matters.
enum class Delivery : std::uint8_t { everything, time_of_large_messages };

/// Models Collectives. A start returns when its move has finished, which is the same time to callers that wait at once.
/// Large messages of `time_of_large_messages` go from nowhere to nowhere: SMPI leaves out the copies of memory that it
/// has given out as shared, and the rest of a simulated rank does not touch its activations either.
class SmpiTransport {
 public:
  /// `timed`: while it does not record, as it does not of a prompt before tokens to decode, large messages are not sent
  /// at all. It outlives the transport.
  explicit SmpiTransport(MPI_Comm parent, Delivery delivery, const TraceLane* timed = nullptr)
      : SmpiTransport(Owned{}, duplicate(parent), delivery, timed) {}

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] std::string_view name() const { return "smpi"; }
  /// Hosts of a platform have names that end in their numbers (tools/simulate: node-0, node-1, ...).
  [[nodiscard]] int machine() const {
    const std::string& host = simgrid::s4u::this_actor::get_host()->get_name();
    return std::stoi(host.substr(host.find_last_not_of("0123456789") + 1));
  }

  Ticket start_allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t> counts) {
    if (is_left_out(static_cast<index_t>(all.size()))) return {};
    settle_account();
    std::vector<int> sizes, begins;
    // Every rank's part leaves it once, or is handed on as often: what comes in is all but one's own.
    Waiting waiting(2 * static_cast<index_t>(all.size() - mine.size()));
    if (is_nowhere(static_cast<index_t>(all.size()))) {
      // Bytes as Mpi gathers them, for SMPI holds the number of elements against MPICH's limits in bytes; floats of
      // more than an int counts.
      const bool much = static_cast<index_t>(all.size()) > INT_MAX;
      const MPI_Datatype type = much ? MPI_FLOAT : MPI_BYTE;
      for (const index_t count : counts)
        sizes.push_back(much ? floats(count) : static_cast<int>(count)), begins.push_back(0);
      check(MPI_Allgatherv(MPI_IN_PLACE, 0, type, nowhere(), sizes.data(), begins.data(), type, comm_));
      waiting.end();
      return {};
    }
    index_t before = 0;
    for (const index_t count : counts) {
      sizes.push_back(static_cast<int>(count)), begins.push_back(static_cast<int>(before));
      before += count;
    }
    const bool in_place = mine.data() == all.data() + begins[static_cast<std::size_t>(rank_)];
    check(MPI_Allgatherv(in_place ? MPI_IN_PLACE : mine.data(), static_cast<int>(mine.size()), MPI_BYTE, all.data(),
                         sizes.data(), begins.data(), MPI_BYTE, comm_));
    waiting.end();
    return {};
  }

  /// Messages between pairs, as Mpi sends them, but for those that would only wait for the link: what the simulator
  /// does for a message grows with those that share its way.
  Ticket start_alltoall(std::span<const std::byte> send_all, std::span<const index_t> send_counts,
                        std::span<std::byte> receive_all, std::span<const index_t> receive_counts) {
    const auto most = static_cast<index_t>(std::max(send_all.size(), receive_all.size()));
    settle_account();
    const bool large = is_nowhere(most);
    const auto begins = [](std::span<const index_t> counts) {
      std::vector<index_t> at(1, 0);
      for (const index_t count : counts) at.push_back(at.back() + count);
      return at;
    };
    const std::vector<index_t> from = begins(send_counts), to = begins(receive_counts);
    const auto outgoing = [&](int r) {
      return send_all.subspan(static_cast<std::size_t>(from[at(r)]), static_cast<std::size_t>(send_counts[at(r)]));
    };
    const auto incoming = [&](int r) {
      return receive_all.subspan(static_cast<std::size_t>(to[at(r)]), static_cast<std::size_t>(receive_counts[at(r)]));
    };
    keep_own(outgoing(rank_), incoming(rank_), large);
    Waiting waiting(static_cast<index_t>(send_all.size() + receive_all.size()));
    std::vector<MPI_Request> requests;
    const std::size_t at_once = partners_at_once(most);
    for (int step = 1; step < size_; ++step) {
      if (requests.size() >= 2 * at_once) wait_for_oldest(requests);
      receive(requests, incoming((rank_ + size_ - step) % size_), (rank_ + size_ - step) % size_, large);
      send(requests, outgoing((rank_ + step) % size_), (rank_ + step) % size_, large);
    }
    wait(requests);
    waiting.end();
    return {};
  }

  Ticket start_exchange(std::span<const std::byte> send_one, int dest, std::span<std::byte> receive_one, int source) {
    settle_account();
    if (dest == rank_) {
      keep_own(send_one, receive_one, is_nowhere(static_cast<index_t>(send_one.size())));
      return {};
    }
    Waiting waiting(static_cast<index_t>(send_one.size() + receive_one.size()));
    std::vector<MPI_Request> requests;
    if (source != no_rank) receive(requests, receive_one, source, is_nowhere(static_cast<index_t>(receive_one.size())));
    if (dest != no_rank) send(requests, send_one, dest, is_nowhere(static_cast<index_t>(send_one.size())));
    wait(requests);
    waiting.end();
    return {};
  }

  [[nodiscard]] bool test(Ticket) { return true; }

  /// See SummingCollectives: one thread reads the terms and writes their sum.
  void sum_terms(int count, const float* terms, std::span<float> sum) {
    const double bytes = static_cast<double>(sum.size_bytes());
    account_of_actor().spend(copying_seconds(account_of_actor().machine, (count + 1) / 2.0 * bytes));
    if (!is_nowhere(static_cast<index_t>(sum.size_bytes()) * count)) sum_in_rank_order(count, terms, sum);
  }

  /// See PackingCollectives: what travels in rounds is so little that a cache holds it.
  void packed(index_t bytes) {
    account_of_actor().spend(cached_copying_seconds(account_of_actor().machine, static_cast<double>(bytes)));
  }

  [[nodiscard]] SmpiTransport split(int color, int key) {
    settle_account();
    MPI_Comm part = MPI_COMM_NULL;
    check(MPI_Comm_split(comm_, color, key, &part));
    return SmpiTransport(Owned{}, part, delivery_, timed_);
  }

 private:
  struct Owned {};
  static constexpr index_t largest_small = 4096;  // bytes of what is delivered whatever it is: choices of tokens
  static constexpr index_t least_partners = 4, most_partners = 64;  // with which a rank has messages on their way
  static constexpr index_t on_the_way = index_t{1} << 20;  // bytes of such: no link carries as many in its latency
  static constexpr index_t nowhere_bytes = index_t{1} << 31;

  SmpiTransport(Owned, MPI_Comm owned, Delivery delivery, const TraceLane* timed)
      : comm_(owned), delivery_(delivery), timed_(timed) {
    MPI_Comm_rank(comm_, &rank_), MPI_Comm_size(comm_, &size_);
  }
  [[nodiscard]] static MPI_Comm duplicate(MPI_Comm parent) {
    MPI_Comm copy = MPI_COMM_NULL;
    check(MPI_Comm_dup(parent, &copy));
    return copy;
  }
  static void check(int code) { detail::check_mpi(code, "SMPI"); }
  [[nodiscard]] static std::size_t at(int rank) { return static_cast<std::size_t>(rank); }

  [[nodiscard]] bool is_nowhere(index_t bytes) const {
    return delivery_ == Delivery::time_of_large_messages && bytes > largest_small;
  }
  /// Of a message, or of a gather of which all ranks know the size: all that it is between decide alike.
  [[nodiscard]] bool is_left_out(index_t bytes) const {
    return is_nowhere(bytes) && timed_ != nullptr && !timed_->recording();
  }
  /// Memory that SMPI does not copy, of all ranks together: pages of it are never touched.
  [[nodiscard]] static void* nowhere() {
    static void* const memory = SMPI_SHARED_MALLOC(nowhere_bytes);
    return memory;
  }
  [[nodiscard]] static int floats(index_t bytes) { return static_cast<int>(ceil_div(bytes, index_t{4})); }

  void keep_own(std::span<const std::byte> from, std::span<std::byte> to, bool large) const {
    require(from.size() == to.size(), "a rank sends itself ", from.size(), " bytes and expects ", to.size());
    account_of_actor().spend(copying_seconds(account_of_actor().machine, static_cast<double>(from.size())));
    if (!large && !from.empty()) std::memmove(to.data(), from.data(), from.size());
  }
  void send(std::vector<MPI_Request>& requests, std::span<const std::byte> data, int dest, bool large) {
    const auto bytes = static_cast<index_t>(data.size());
    if (bytes == 0 || is_left_out(bytes)) return;
    check(MPI_Isend(large ? nowhere() : data.data(), floats_or_bytes(bytes, large), large ? MPI_FLOAT : MPI_BYTE, dest,
                    0, comm_, &requests.emplace_back(MPI_REQUEST_NULL)));
  }
  void receive(std::vector<MPI_Request>& requests, std::span<std::byte> data, int source, bool large) {
    const auto bytes = static_cast<index_t>(data.size());
    if (bytes == 0 || is_left_out(bytes)) return;
    check(MPI_Irecv(large ? nowhere() : data.data(), floats_or_bytes(bytes, large), large ? MPI_FLOAT : MPI_BYTE,
                    source, 0, comm_, &requests.emplace_back(MPI_REQUEST_NULL)));
  }
  [[nodiscard]] static int floats_or_bytes(index_t bytes, bool large) {
    return large ? floats(bytes) : static_cast<int>(bytes);
  }
  /// Of an all-to-all of so many bytes in all.
  [[nodiscard]] std::size_t partners_at_once(index_t bytes) const {
    return static_cast<std::size_t>(
        std::clamp(on_the_way * size_ / std::max(bytes, index_t{1}), least_partners, most_partners));
  }
  static void wait_for_oldest(std::vector<MPI_Request>& requests) {
    check(MPI_Waitall(2, requests.data(), MPI_STATUSES_IGNORE));
    requests.erase(requests.begin(), requests.begin() + 2);
  }
  static void wait(std::vector<MPI_Request>& requests) {
    check(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE));
  }

  detail::MpiGroup comm_;
  Delivery delivery_;
  const TraceLane* timed_;
  int rank_ = 0;
  int size_ = 1;
};

static_assert(SummingCollectives<SmpiTransport> && PackingCollectives<SmpiTransport> &&
              MachineAwareCollectives<SmpiTransport>);

}  // namespace tessera::simulated
