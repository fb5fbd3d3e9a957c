#pragma once
// Collective operations out of any transport's moves, with sums in rank order: the same bits on every rank.

#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include <tessera/comm/await.hpp>
#include <tessera/comm/operations.hpp>
#include <tessera/comm/sum.hpp>
#include <tessera/core/buffer.hpp>
#include <tessera/core/partition.hpp>

namespace tessera {

/// The operations over transport C.
///
/// An allreduce of up to `one_shot_bytes` is one move: everybody gets all terms and sums. A larger one is pairwise:
/// each rank gets all terms of its slice, sums them, and gathers the slices: 2(P-1)/P n floats on the wire, as a ring,
/// but in rank order (a ring starts each slice's sum at another rank).
template <Collectives C>
class RankOrderOperations final : public Operations {
 public:
  explicit RankOrderOperations(C collectives)
      : collectives_(std::move(collectives)), rank_(collectives_.rank()), size_(collectives_.size()) {}

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] std::string_view name() const override { return collectives_.name(); }
  [[nodiscard]] double timeout() const override { return timeout_; }
  void set_timeout(double seconds) override { timeout_ = seconds; }
  [[nodiscard]] index_t wire_bytes() const override { return wire_bytes_; }

  [[nodiscard]] int start_allreduce(std::span<float> inout) override {
    const auto [id, op] = claim(Collective::allreduce, as_bytes(inout.size()));
    if (size_ == 1 || inout.empty()) return id;
    op.inout = inout;
    const auto n = static_cast<index_t>(inout.size());
    if constexpr (AllreducingCollectives<C>) {
      if (collectives_.has_own_allreduce()) {
        wire_bytes_ += 2 * op.bytes * (size_ - 1) / size_;
        return begin(id, Stage::moving, collectives_.start_own_allreduce(inout));
      }
    }
    if (op.bytes <= one_shot_bytes) {
      wire_bytes_ += op.bytes * (size_ - 1);
      if constexpr (ReducingCollectives<C>) {
        return begin(id, Stage::summed_all, collectives_.start_reduce(inout, {}, scratch(op, n)));
      } else {
        op.receive_counts.assign(ranks(), op.bytes);
        const auto all = scratch(op, n * size_);
        return begin(
            id, Stage::gathered_terms,
            collectives_.start_allgather(std::as_bytes(inout), std::as_writable_bytes(all), op.receive_counts));
      }
    }
    const Range mine = partition(n, size_, rank_, slice_grain);
    wire_bytes_ += op.bytes - as_bytes(mine.size());
    return start_slice_terms(id, op, inout, mine, Stage::gathered_slice_terms, Stage::summed_slice);
  }

  [[nodiscard]] int start_reduce_scatter(std::span<const float> in, std::span<float> mine,
                                         std::span<const index_t> counts) override {
    check_counts("reduce_scatter", counts, static_cast<index_t>(in.size()), static_cast<index_t>(mine.size()));
    const auto [id, op] = claim(Collective::reduce_scatter, as_bytes(in.size()));
    if (size_ == 1) {
      if (!mine.empty() && mine.data() != in.data()) std::memmove(mine.data(), in.data(), mine.size_bytes());
      return id;
    }
    if (in.empty()) return id;
    op.inout = mine;
    wire_bytes_ += op.bytes - as_bytes(mine.size());
    const auto share = static_cast<index_t>(mine.size());
    if constexpr (ReducingCollectives<C>) {
      return begin(id, Stage::moving, collectives_.start_reduce(in, counts, mine));
    } else {
      op.send_counts.resize(ranks());
      for (int r = 0; r < size_; ++r) op.send_counts[index(r)] = as_bytes(counts[index(r)]);
      op.receive_counts.assign(ranks(), as_bytes(share));
      const auto terms = scratch(op, share * size_);
      return begin(id, Stage::gathered_terms,
                   collectives_.start_alltoall(std::as_bytes(in), op.send_counts, std::as_writable_bytes(terms),
                                               op.receive_counts));
    }
  }

  [[nodiscard]] int start_allgather(std::span<const std::byte> mine, std::span<std::byte> all,
                                    std::span<const index_t> counts) override {
    check_counts("allgather", counts, static_cast<index_t>(all.size()), static_cast<index_t>(mine.size()));
    const auto [id, op] = claim(Collective::allgather, static_cast<index_t>(all.size()));
    if (all.empty()) return id;
    wire_bytes_ += static_cast<index_t>(mine.size()) * (size_ - 1);
    return begin(id, Stage::moving, collectives_.start_allgather(mine, all, counts));
  }

  [[nodiscard]] int start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                                   std::span<std::byte> receive, std::span<const index_t> receive_counts) override {
    check_counts("alltoall, sent", send_counts, static_cast<index_t>(send.size()));
    check_counts("alltoall, received", receive_counts, static_cast<index_t>(receive.size()));
    const auto [id, op] = claim(Collective::alltoall, static_cast<index_t>(send.size()));
    wire_bytes_ += op.bytes - send_counts[index(rank_)];
    return begin(id, Stage::moving, collectives_.start_alltoall(send, send_counts, receive, receive_counts));
  }

  /// Small: the root is the only one with something to gather. Large: it deals out slices, which are then gathered.
  [[nodiscard]] int start_broadcast(std::span<std::byte> data, int root) override {
    require(0 <= root && root < size_, "broadcast: expected a root in [0, ", size_, "), found ", root);
    const auto [id, op] = claim(Collective::broadcast, static_cast<index_t>(data.size()));
    if (size_ == 1 || data.empty()) return id;
    const bool is_root = rank_ == root;
    op.receive_counts.assign(ranks(), 0);
    if (op.bytes <= one_shot_bytes || size_ == 2) {
      if (is_root) wire_bytes_ += op.bytes * (size_ - 1);
      op.receive_counts[index(root)] = op.bytes;
      const std::span<const std::byte> mine = is_root ? std::span<const std::byte>(data) : std::span<const std::byte>();
      return begin(id, Stage::moving, collectives_.start_allgather(mine, data, op.receive_counts));
    }
    const Range mine = partition(op.bytes, size_, rank_, 64);
    if (is_root) wire_bytes_ += op.bytes - mine.size();
    op.send_counts.assign(ranks(), 0);
    if (is_root) slice_counts(op.bytes, 64, 1, op.send_counts);
    op.receive_counts[index(root)] = mine.size();
    op.bytes_inout = data;
    const auto slice = byte_scratch(op, mine.size());
    return begin(id, Stage::dealt_slice,
                 collectives_.start_alltoall(is_root ? std::span<const std::byte>(data) : std::span<const std::byte>(),
                                             op.send_counts, slice, op.receive_counts));
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
    op.receive_counts.assign(ranks(), 1);  // a byte each: a gather of nothing need not wait for anybody
    const auto all = byte_scratch(op, size_);
    all[index(rank_)] = std::byte{1};
    wire_bytes_ += size_ - 1;
    return begin(id, Stage::moving, collectives_.start_allgather(all.subspan(index(rank_), 1), all, op.receive_counts));
  }

  void wait(int operation) override {
    Operation& op = *operations_[index(operation)];
    while (op.stage != Stage::done) {
      finish_move(op);
      advance(op);
    }
    op.busy = false;
  }

  [[nodiscard]] std::shared_ptr<Operations> split(int color, int key) override {
    wait(start_barrier());  // within the deadline; the split itself may wait without one
    auto group = std::make_shared<RankOrderOperations>(collectives_.split(color, key));
    group->set_timeout(timeout_);
    return group;
  }

 private:
  static constexpr index_t one_shot_bytes = 32 << 10;
  static constexpr index_t slice_grain = 16;  // floats in a cache line

  enum class Stage { moving, summed_all, gathered_terms, gathered_slice_terms, summed_slice, dealt_slice, done };

  struct Operation {
    Collective kind{};
    Stage stage = Stage::done;
    Ticket ticket{};
    bool busy = false;
    index_t bytes = 0;
    std::span<float> inout;
    std::span<std::byte> bytes_inout;
    std::vector<index_t> send_counts, receive_counts;
    Buffer<float> memory;  // grown only when a larger operation is first asked for
  };

  struct Claimed {
    int id;
    Operation& op;
  };

  [[nodiscard]] std::size_t ranks() const { return static_cast<std::size_t>(size_); }
  [[nodiscard]] static std::size_t index(int i) { return static_cast<std::size_t>(i); }
  template <class Count>
  [[nodiscard]] static index_t as_bytes(Count floats) {
    return static_cast<index_t>(floats) * static_cast<index_t>(sizeof(float));
  }

  [[nodiscard]] Claimed claim(Collective kind, index_t bytes) {
    std::size_t id = 0;
    while (id < operations_.size() && operations_[id]->busy) ++id;
    if (id == operations_.size()) operations_.push_back(std::make_unique<Operation>());
    Operation& op = *operations_[id];
    op.kind = kind, op.bytes = bytes, op.stage = Stage::done, op.busy = true;
    return {static_cast<int>(id), op};
  }

  [[nodiscard]] int begin(int id, Stage stage, Ticket ticket) {
    Operation& op = *operations_[index(id)];
    op.stage = stage, op.ticket = ticket;
    return id;
  }

  [[nodiscard]] std::span<float> scratch(Operation& op, index_t floats) {
    if (op.memory.size() < floats) op.memory = Buffer<float>(floats);
    return op.memory.span().first(static_cast<std::size_t>(floats));
  }
  [[nodiscard]] std::span<std::byte> byte_scratch(Operation& op, index_t bytes) {
    return std::as_writable_bytes(scratch(op, ceil_div(bytes, 4))).first(static_cast<std::size_t>(bytes));
  }

  void slice_counts(index_t n, index_t grain, index_t bytes_each, std::vector<index_t>& counts) const {
    counts.resize(ranks());
    for (int r = 0; r < size_; ++r) counts[index(r)] = partition(n, size_, r, grain).size() * bytes_each;
  }

  void check_counts(std::string_view what, std::span<const index_t> counts, index_t total, index_t mine = -1) const {
    require(counts.size() == ranks(), what, ": expected one count for each of ", size_, " ranks, found ",
            counts.size());
    index_t sum = 0;
    for (const index_t count : counts) {
      require(count >= 0, what, ": expected counts >= 0, found ", count);
      sum += count;
    }
    require(sum == total, what, ": the counts add up to ", sum, ", the buffer holds ", total, " (rank ", rank_, " of ",
            size_, ")");
    require(mine < 0 || counts[index(rank_)] == mine, what, ": expected ", counts[index(rank_)], " of rank ", rank_,
            ", found ", mine);
  }

  [[nodiscard]] int start_slice_terms(int id, Operation& op, std::span<float> inout, Range mine, Stage with_terms,
                                      Stage summed) {
    const auto n = static_cast<index_t>(inout.size());
    if constexpr (ReducingCollectives<C>) {
      slice_counts(n, slice_grain, 1, op.send_counts);
      return begin(id, summed, collectives_.start_reduce(inout, op.send_counts, scratch(op, mine.size())));
    } else {
      slice_counts(n, slice_grain, sizeof(float), op.send_counts);
      op.receive_counts.assign(ranks(), as_bytes(mine.size()));
      const auto terms = scratch(op, mine.size() * size_);
      return begin(id, with_terms,
                   collectives_.start_alltoall(std::as_bytes(inout), op.send_counts, std::as_writable_bytes(terms),
                                               op.receive_counts));
    }
  }

  void gather_slices(Operation& op, std::span<const std::byte> slice, std::span<std::byte> all) {
    wire_bytes_ += static_cast<index_t>(slice.size()) * (size_ - 1);
    op.ticket = collectives_.start_allgather(slice, all, op.receive_counts);
    op.stage = Stage::moving;
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
        sum_in_rank_order(size_, memory, op.inout);
        op.stage = Stage::done;
        return;
      case Stage::gathered_slice_terms:
      case Stage::summed_slice: {
        const auto n = static_cast<index_t>(op.inout.size());
        const index_t share = partition(n, size_, rank_, slice_grain).size();
        const auto slice = op.memory.span().first(static_cast<std::size_t>(share));
        if (op.stage == Stage::gathered_slice_terms) sum_in_rank_order(size_, memory, slice);
        slice_counts(n, slice_grain, sizeof(float), op.receive_counts);
        gather_slices(op, std::as_bytes(slice), std::as_writable_bytes(op.inout));
        return;
      }
      case Stage::dealt_slice: {
        slice_counts(op.bytes, 64, 1, op.receive_counts);
        const auto slice = byte_scratch(op, op.receive_counts[index(rank_)]);
        gather_slices(op, slice, op.bytes_inout);
        return;
      }
      case Stage::moving:
      case Stage::done: op.stage = Stage::done;
    }
  }

  void finish_move(Operation& op) {
    auto deadline = WaitClock::time_point::max();
    if (timeout_ > 0)
      deadline =
          WaitClock::now() + std::chrono::duration_cast<WaitClock::duration>(std::chrono::duration<double>(timeout_));
    if (!await(collectives_, op.ticket, deadline))
      fail(name_of(op.kind), " of ", op.bytes, " bytes: rank ", rank_, " of ", size_, " (", collectives_.name(),
           ") waited ", timeout_, " s for the others; a rank is lost, stopped or in another collective");
  }

  C collectives_;
  int rank_;
  int size_;
  double timeout_ = 600;
  index_t wire_bytes_ = 0;
  std::vector<std::unique_ptr<Operation>> operations_;
};

}  // namespace tessera
