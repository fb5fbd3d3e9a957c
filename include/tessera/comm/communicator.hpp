#pragma once
// The communicator: a copyable handle to one rank's place in a group, whatever the transport.

#include <exception>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include <tessera/comm/rank_order.hpp>

namespace tessera {

/// A started operation. Its buffers belong to it until wait() returns; dropped without one, it is finished first
/// (within a second when an exception is on its way), and its own error is lost.
class Pending {
 public:
  Pending() = default;
  Pending(std::shared_ptr<Operations> operations, int id) : operations_(std::move(operations)), id_(id) {}
  Pending(Pending&& other) noexcept = default;
  Pending& operator=(Pending&& other) noexcept {
    finish_quietly();
    operations_ = std::move(other.operations_), id_ = other.id_;
    return *this;
  }
  ~Pending() { finish_quietly(); }

  /// Returns when the operation has finished; throws Error at the communicator's deadline.
  void wait() {
    if (const auto operations = std::exchange(operations_, nullptr)) operations->wait(id_);
  }

 private:
  void finish_quietly() noexcept {
    if (operations_ == nullptr) return;
    const double timeout = operations_->timeout();
    const bool unwinding = std::uncaught_exceptions() > 0;
    if (unwinding && (timeout <= 0 || timeout > 1)) operations_->set_timeout(1);
    try {
      operations_->wait(id_);
    } catch (...) {
      // The operation could not finish; whoever waits for its result finds out there.
    }
    operations_->set_timeout(timeout);
    operations_ = nullptr;
  }

  std::shared_ptr<Operations> operations_;
  int id_ = 0;
};

/// One rank's handle to a group of ranks. Copies share the group; every operation is collective: all ranks call it, in
/// the same order, from one thread each. Sums run in rank order 0..P-1: the same bits on every rank and transport.
/// Nothing is allocated once the largest operation has been seen. Errors: Error when counts and buffers disagree, when
/// the transport fails, or at the deadline.
class Communicator {
 public:
  template <class C>
    requires(!std::same_as<C, Communicator>)
  &&Collectives<C> Communicator(
      C collectives)  // NOLINT(google-explicit-constructor): a transport converts to a communicator
      : operations_(std::make_shared<detail::RankOrderOperations<C>>(std::move(collectives))) {}
  explicit Communicator(std::shared_ptr<Operations> operations) : operations_(std::move(operations)) {}

  [[nodiscard]] int rank() const { return operations_->rank(); }
  [[nodiscard]] int size() const { return operations_->size(); }
  /// The transport: "mpi", "loopback", "in process", ...
  [[nodiscard]] std::string_view name() const { return operations_->name(); }
  [[nodiscard]] const std::shared_ptr<Operations>& operations() const { return operations_; }

  /// Seconds that an operation may wait for other ranks before it throws; 0 for ever. Shared by all copies.
  void set_timeout(double seconds) { operations_->set_timeout(seconds); }
  [[nodiscard]] double timeout() const { return operations_->timeout(); }

  /// inout := the sum of all ranks' inout.
  void allreduce(std::span<float> inout) { start_allreduce(inout).wait(); }
  [[nodiscard]] Pending start_allreduce(std::span<float> inout) { return pending(operations_->start_allreduce(inout)); }

  /// mine := this rank's part of the sum of all ranks' `in`, which is cut by `counts`, in rank order.
  void reduce_scatter(std::span<const float> in, std::span<float> mine, std::span<const index_t> counts) {
    start_reduce_scatter(in, mine, counts).wait();
  }
  [[nodiscard]] Pending start_reduce_scatter(std::span<const float> in, std::span<float> mine,
                                             std::span<const index_t> counts) {
    return pending(operations_->start_reduce_scatter(in, mine, counts));
  }

  /// all := every rank's `mine`, in rank order; counts[r] elements from rank r. `mine` may lie in its place in `all`.
  template <class T>
  void allgather(std::span<const std::type_identity_t<T>> mine, std::span<T> all, std::span<const index_t> counts) {
    start_allgather<T>(mine, all, counts).wait();
  }
  template <class T>
  [[nodiscard]] Pending start_allgather(std::span<const std::type_identity_t<T>> mine, std::span<T> all,
                                        std::span<const index_t> counts) {
    static_assert(std::is_trivially_copyable_v<T>);
    in_bytes<T>(counts, counts_);
    return pending(operations_->start_allgather(std::as_bytes(mine), std::as_writable_bytes(all), counts_));
  }

  /// The same for activations, which may travel in fewer bits (compressed.hpp).
  void allgather_activations(std::span<const float> mine, std::span<float> all, std::span<const index_t> counts) {
    pending(operations_->start_allgather_activations(mine, all, counts)).wait();
  }

  /// `send`: one piece per receiver, `receive`: one piece per sender, both in rank order; counts in elements.
  template <class T>
  void alltoall(std::span<const std::type_identity_t<T>> send, std::span<const index_t> send_counts,
                std::span<T> receive, std::span<const index_t> receive_counts) {
    start_alltoall<T>(send, send_counts, receive, receive_counts).wait();
  }
  template <class T>
  [[nodiscard]] Pending start_alltoall(std::span<const std::type_identity_t<T>> send,
                                       std::span<const index_t> send_counts, std::span<T> receive,
                                       std::span<const index_t> receive_counts) {
    static_assert(std::is_trivially_copyable_v<T>);
    in_bytes<T>(send_counts, counts_);
    in_bytes<T>(receive_counts, more_counts_);
    return pending(
        operations_->start_alltoall(std::as_bytes(send), counts_, std::as_writable_bytes(receive), more_counts_));
  }

  /// The same where rank r receives counts[r] elements of everybody, whoever sends: `counts` is equal on all ranks.
  template <class T>
  void deal(std::span<const std::type_identity_t<T>> send, std::span<const index_t> counts, std::span<T> receive) {
    static_assert(std::is_trivially_copyable_v<T>);
    in_bytes<T>(counts, counts_);
    pending(operations_->start_deal(std::as_bytes(send), counts_, std::as_writable_bytes(receive))).wait();
  }

  /// data := root's data, on every rank.
  template <class T>
  void broadcast(std::span<T> data, int root) {
    start_broadcast(data, root).wait();
  }
  template <class T>
  [[nodiscard]] Pending start_broadcast(std::span<T> data, int root) {
    static_assert(std::is_trivially_copyable_v<T>);
    return pending(operations_->start_broadcast(std::as_writable_bytes(data), root));
  }

  /// Sends to `dest` and receives from `source`, for rings and pairs. All ranks call it; a rank with nothing to send or
  /// to receive says `no_rank` there.
  template <class T>
  [[nodiscard]] Pending start_exchange(std::span<const std::type_identity_t<T>> send, int dest, std::span<T> receive,
                                       int source) {
    static_assert(std::is_trivially_copyable_v<T>);
    return pending(operations_->start_exchange(std::as_bytes(send), dest, std::as_writable_bytes(receive), source));
  }

  void barrier() { pending(operations_->start_barrier()).wait(); }

  /// What is to be said at the end of a run; empty: nothing.
  [[nodiscard]] std::string report() const { return operations_->report(); }
  /// Ranks with the same number can share memory.
  [[nodiscard]] int machine() const { return operations_->machine(); }

  /// The same ranks again, with operations that run on a thread of their own while this one computes: what is started
  /// goes on by itself, one after the other in the order of the starts. Collective.
  [[nodiscard]] Communicator in_background() { return Communicator(operations_->in_background()); }

  /// The ranks of one color become a group of their own, ordered by key, then by rank.
  [[nodiscard]] Communicator split(int color, int key) {
    require(color >= 0, "split: expected a color >= 0, found ", color);
    return Communicator(operations_->split(color, key));
  }

 private:
  [[nodiscard]] Pending pending(int id) const { return {operations_, id}; }

  template <class T>
  static void in_bytes(std::span<const index_t> counts, std::vector<index_t>& bytes) {
    bytes.resize(counts.size());
    for (std::size_t r = 0; r < counts.size(); ++r) bytes[r] = counts[r] * static_cast<index_t>(sizeof(T));
  }

  std::shared_ptr<Operations> operations_;
  std::vector<index_t> counts_, more_counts_;  // scratch: started moves copy their counts
};

}  // namespace tessera
