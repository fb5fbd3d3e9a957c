#pragma once
// Collective operations out of any transport's moves, with sums in rank order: the same bits on every rank.

#include <cstring>
#include <memory>
#include <vector>

#include <tessera/comm/background.hpp>
#include <tessera/comm/deadline.hpp>
#include <tessera/comm/route.hpp>
#include <tessera/comm/sum.hpp>
#include <tessera/comm/wire_cost.hpp>

namespace tessera::detail {

/// The operations over transport C.
///
/// A small allreduce is one move (is_one_move): everybody gets all terms and sums. A larger one is pairwise: each rank
/// gets all terms of its slice, sums them, and gathers the slices: 2(P-1)/P n floats on the wire, as a ring, but in
/// rank order (a ring starts each slice's sum at another rank). What is few bytes for so many ranks travels in rounds
/// (travels_in_rounds), by messages between pairs; ranks that read each other's memory need none.
template <Collectives C>
class RankOrderOperations final : public Operations {
 public:
  explicit RankOrderOperations(C collectives)
      : collectives_(std::move(collectives)), rank_(collectives_.rank()), size_(collectives_.size()) {}

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] std::string_view name() const override { return collectives_.name(); }
  [[nodiscard]] double timeout() const override { return deadline_.seconds(); }
  void set_timeout(double seconds) override { deadline_.set(seconds); }
  [[nodiscard]] index_t wire_bytes() const override { return wire_bytes_; }
  [[nodiscard]] int machine() const override {
    if constexpr (MachineAwareCollectives<C>) return collectives_.machine();
    return rank_;
  }

  [[nodiscard]] int start_allreduce(std::span<float> inout) override {
    const auto [id, op] = claim(Collective::allreduce, float_bytes(inout.size()));
    if (size_ == 1 || inout.empty()) return id;
    op.inout = inout;
    const auto n = static_cast<index_t>(inout.size());
    if constexpr (AllreducingCollectives<C>) {
      if (collectives_.has_own_allreduce()) {
        wire_bytes_ += 2 * op.bytes * (size_ - 1) / size_;
        return begin(id, Stage::moving, collectives_.start_own_allreduce(inout));
      }
    }
    if (is_one_move(op.bytes, size_)) {
      if constexpr (ReducingCollectives<C>) {
        wire_bytes_ += op.bytes * (size_ - 1);
        return begin(id, Stage::summed_all, collectives_.start_reduce(inout, {}, op.memory.floats(n)));
      } else {
        op.counts.assign(ranks(), op.bytes);
        const auto all = op.memory.floats(n * size_);
        return begin(id, Stage::gathered_terms, gather(op, std::as_bytes(inout), std::as_writable_bytes(all)));
      }
    }
    return start_slice_terms(id, op, inout);
  }

  [[nodiscard]] int start_reduce_scatter(std::span<const float> in, std::span<float> mine,
                                         std::span<const index_t> counts) override {
    check_counts("reduce_scatter", rank_, size_, counts, static_cast<index_t>(in.size()),
                 static_cast<index_t>(mine.size()));
    const auto [id, op] = claim(Collective::reduce_scatter, float_bytes(in.size()));
    if (size_ == 1) {
      if (!mine.empty() && mine.data() != in.data()) std::memmove(mine.data(), in.data(), mine.size_bytes());
      return id;
    }
    if (in.empty()) return id;
    op.inout = mine;
    if constexpr (ReducingCollectives<C>) {
      wire_bytes_ += op.bytes - float_bytes(mine.size());
      return begin(id, Stage::moving, collectives_.start_reduce(in, counts, mine));
    } else {
      op.counts.assign(counts.begin(), counts.end());
      for (index_t& count : op.counts) count = float_bytes(count);
      const auto terms = op.memory.floats(static_cast<index_t>(mine.size()) * size_);
      return begin(id, Stage::gathered_terms, deal(op, std::as_bytes(in), std::as_writable_bytes(terms)));
    }
  }

  [[nodiscard]] int start_allgather(std::span<const std::byte> mine, std::span<std::byte> all,
                                    std::span<const index_t> counts) override {
    check_counts("allgather", rank_, size_, counts, static_cast<index_t>(all.size()),
                 static_cast<index_t>(mine.size()));
    const auto [id, op] = claim(Collective::allgather, static_cast<index_t>(all.size()));
    if (all.empty()) return id;
    op.counts.assign(counts.begin(), counts.end());
    return begin(id, Stage::moving, gather(op, mine, all));
  }

  [[nodiscard]] int start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                                   std::span<std::byte> receive, std::span<const index_t> receive_counts) override {
    check_counts("alltoall, sent", rank_, size_, send_counts, static_cast<index_t>(send.size()));
    check_counts("alltoall, received", rank_, size_, receive_counts, static_cast<index_t>(receive.size()));
    const auto [id, op] = claim(Collective::alltoall, static_cast<index_t>(send.size()));
    wire_bytes_ += op.bytes - send_counts[at(rank_)];
    return begin(id, Stage::moving, collectives_.start_alltoall(send, send_counts, receive, receive_counts));
  }

  [[nodiscard]] int start_deal(std::span<const std::byte> send, std::span<const index_t> counts,
                               std::span<std::byte> receive) override {
    check_counts("deal", rank_, size_, counts, static_cast<index_t>(send.size()));
    require(static_cast<index_t>(receive.size()) == counts[at(rank_)] * size_, "deal: expected room for ",
            counts[at(rank_)], " bytes of each of ", size_, " ranks, found ", receive.size());
    const auto [id, op] = claim(Collective::deal, static_cast<index_t>(send.size()));
    op.counts.assign(counts.begin(), counts.end());
    return begin(id, Stage::moving, deal(op, send, receive));
  }

  /// Small: the root is the only one with something to gather. Large: it deals out slices, which are then gathered.
  [[nodiscard]] int start_broadcast(std::span<std::byte> data, int root) override {
    require(0 <= root && root < size_, "broadcast: expected a root in [0, ", size_, "), found ", root);
    const auto [id, op] = claim(Collective::broadcast, static_cast<index_t>(data.size()));
    if (size_ == 1 || data.empty()) return id;
    const bool is_root = rank_ == root;
    if (is_one_move(op.bytes, size_) || size_ == 2) {
      op.counts.assign(ranks(), 0);
      op.counts[at(root)] = op.bytes;
      const std::span<const std::byte> mine = is_root ? std::span<const std::byte>(data) : std::span<const std::byte>();
      return begin(id, Stage::moving, gather(op, mine, data));
    }
    const Range mine = partition(op.bytes, size_, rank_, 64);
    if (is_root) wire_bytes_ += op.bytes - mine.size();
    op.counts.assign(ranks(), 0);
    if (is_root) slice_counts(op.bytes, size_, 64, 1, op.counts);
    op.receive_counts.assign(ranks(), 0);
    op.receive_counts[at(root)] = mine.size();
    op.bytes_inout = data;
    const auto slice = op.memory.bytes(mine.size());
    return begin(id, Stage::dealt_slice,
                 collectives_.start_alltoall(is_root ? std::span<const std::byte>(data) : std::span<const std::byte>(),
                                             op.counts, slice, op.receive_counts));
  }

  [[nodiscard]] int start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive,
                                   int source) override {
    require(no_rank <= dest && dest < size_, "exchange: expected a destination in [0, ", size_, "), found ", dest);
    require(no_rank <= source && source < size_, "exchange: expected a source in [0, ", size_, "), found ", source);
    const auto [id, op] = claim(Collective::exchange, static_cast<index_t>(send.size()));
    if (dest != no_rank && dest != rank_) wire_bytes_ += op.bytes;
    return begin(id, Stage::moving, collectives_.start_exchange(send, dest, receive, source));
  }

  [[nodiscard]] int start_barrier() override {
    const auto [id, op] = claim(Collective::barrier, 0);
    if (size_ == 1) return id;
    op.counts.assign(ranks(), 1);  // a byte each: a gather of nothing need not wait for anybody
    const auto all = op.memory.bytes(size_);
    all[at(rank_)] = std::byte{1};
    return begin(id, Stage::moving, gather(op, all.subspan(at(rank_), 1), all));
  }

  void wait(int operation) override {
    Operation& op = operations_[operation];
    while (op.stage != Stage::done) {
      deadline_.finish(collectives_, op.ticket, op.kind, op.bytes);
      if (op.in_rounds) {
        op.route.unpack();
        packed(static_cast<index_t>(op.route.received().size()));
        op.in_rounds = !op.route.done();
      }
      if (op.in_rounds)
        op.ticket = next_round(op);
      else
        advance(op);
    }
    operations_.release(operation);
  }

  [[nodiscard]] std::shared_ptr<Operations> split(int color, int key) override { return part(color, key); }
  [[nodiscard]] std::shared_ptr<Operations> patient() override {
    auto group = part(0, rank_);
    if constexpr (PatientCollectives<C>) group->collectives_.be_patient();
    return group;
  }
  [[nodiscard]] std::shared_ptr<Operations> in_background() override {
    return std::make_shared<BackgroundOperations>(patient());
  }

 private:
  [[nodiscard]] std::shared_ptr<RankOrderOperations> part(int color, int key) {
    wait(start_barrier());  // within the deadline; the split itself may wait without one
    auto group = std::make_shared<RankOrderOperations>(collectives_.split(color, key));
    group->set_timeout(timeout());
    return group;
  }

  static constexpr index_t slice_grain = 16;  // floats in a cache line

  enum class Stage { moving, summed_all, gathered_terms, gathered_slice_terms, summed_slice, dealt_slice, done };

  struct Operation {
    Collective kind{};
    Stage stage = Stage::done;
    Ticket ticket{};
    index_t bytes = 0;
    std::span<float> inout;
    std::span<std::byte> bytes_inout;
    std::vector<index_t> counts, receive_counts;
    GrowingBuffer memory;
    bool in_rounds = false;  ///< the present move is one of several
    Route route;
  };

  [[nodiscard]] std::size_t ranks() const { return at(size_); }

  [[nodiscard]] auto claim(Collective kind, index_t bytes) {
    const auto claimed = operations_.claim();
    Operation& op = claimed.operation;
    op.kind = kind, op.bytes = bytes, op.stage = Stage::done, op.in_rounds = false;
    return claimed;
  }

  [[nodiscard]] int begin(int id, Stage stage, Ticket ticket) {
    operations_[id].stage = stage, operations_[id].ticket = ticket;
    return id;
  }

  /// Every rank gets all of `all`, cut by op.counts.
  [[nodiscard]] Ticket gather(Operation& op, std::span<const std::byte> mine, std::span<std::byte> all) {
    if constexpr (!ReducingCollectives<C>) {
      if (travels_in_rounds(static_cast<index_t>(all.size()), size_)) {
        op.route.gather(Rounds::among(size_), rank_, mine, all, op.counts);
        return next_round(op);
      }
    }
    wire_bytes_ += static_cast<index_t>(mine.size()) * (size_ - 1);
    return collectives_.start_allgather(mine, all, op.counts);
  }
  /// Rank r gets op.counts[r] bytes of everybody.
  [[nodiscard]] Ticket deal(Operation& op, std::span<const std::byte> send, std::span<std::byte> terms) {
    const index_t mine = op.counts[at(rank_)];
    if constexpr (!ReducingCollectives<C>) {
      if (travels_in_rounds(static_cast<index_t>(send.size()), size_)) {
        op.route.deal(Rounds::among(size_), rank_, send, op.counts, terms);
        return next_round(op);
      }
    }
    op.receive_counts.assign(ranks(), mine);
    wire_bytes_ += static_cast<index_t>(send.size()) - mine;
    return collectives_.start_alltoall(send, op.counts, terms, op.receive_counts);
  }
  [[nodiscard]] Ticket next_round(Operation& op) {
    op.in_rounds = true;
    op.route.pack();
    packed(static_cast<index_t>(op.route.sent().size()));
    wire_bytes_ += static_cast<index_t>(op.route.sent().size());
    return collectives_.start_alltoall(op.route.sent(), op.route.send_counts(), op.route.received(),
                                       op.route.receive_counts());
  }

  [[nodiscard]] int start_slice_terms(int id, Operation& op, std::span<float> inout) {
    const auto n = static_cast<index_t>(inout.size());
    const index_t mine = partition(n, size_, rank_, slice_grain).size();
    if constexpr (ReducingCollectives<C>) {
      wire_bytes_ += op.bytes - float_bytes(mine);
      slice_counts(n, size_, slice_grain, 1, op.counts);
      return begin(id, Stage::summed_slice, collectives_.start_reduce(inout, op.counts, op.memory.floats(mine)));
    } else {
      slice_counts(n, size_, slice_grain, sizeof(float), op.counts);
      const auto terms = op.memory.floats(mine * size_);
      return begin(id, Stage::gathered_slice_terms, deal(op, std::as_bytes(inout), std::as_writable_bytes(terms)));
    }
  }

  void packed(index_t bytes) {
    if constexpr (PackingCollectives<C>) collectives_.packed(bytes);
  }

  void sum_terms(const float* terms, std::span<float> sum) {
    if constexpr (SummingCollectives<C>)
      collectives_.sum_terms(size_, terms, sum);
    else
      sum_in_rank_order(size_, terms, sum);
  }

  /// What follows a finished move.
  void advance(Operation& op) {
    const float* memory = op.memory.data();
    switch (op.stage) {
      case Stage::summed_all:
        std::memcpy(op.inout.data(), memory, op.inout.size_bytes());
        op.stage = Stage::done;
        return;
      case Stage::gathered_terms:
        sum_terms(memory, op.inout);
        op.stage = Stage::done;
        return;
      case Stage::gathered_slice_terms:
      case Stage::summed_slice: {
        const auto n = static_cast<index_t>(op.inout.size());
        const index_t share = partition(n, size_, rank_, slice_grain).size();
        const auto slice = op.memory.floats(share);
        if (op.stage == Stage::gathered_slice_terms) sum_terms(memory, slice);
        slice_counts(n, size_, slice_grain, sizeof(float), op.counts);
        op.stage = Stage::moving;
        op.ticket = gather(op, std::as_bytes(slice), std::as_writable_bytes(op.inout));
        return;
      }
      case Stage::dealt_slice: {
        slice_counts(op.bytes, size_, 64, 1, op.counts);
        op.stage = Stage::moving;
        op.ticket = gather(op, op.memory.bytes(op.counts[at(rank_)]), op.bytes_inout);
        return;
      }
      case Stage::moving:
      case Stage::done: op.stage = Stage::done;
    }
  }

  C collectives_;
  int rank_;
  int size_;
  Deadline deadline_;
  index_t wire_bytes_ = 0;
  OperationSlots<Operation> operations_;
};

}  // namespace tessera::detail
