#pragma once
// Counts what a communicator is asked to do: calls, payload, bytes on the wire and time, per kind of operation.

#include <array>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include <tessera/comm/communicator.hpp>

namespace tessera {

/// What one rank did with one kind of operation.
struct Tally {
  index_t calls = 0;
  /// As asked for, whatever the algorithm: allreduce and broadcast, the size of the data; allgather, of what is
  /// gathered from all ranks; reduce_scatter, of what is summed; alltoall and exchange, of what this rank sends.
  index_t payload_bytes = 0;
  /// What left this rank, a piece counted once per rank that receives it.
  index_t wire_bytes = 0;
  /// Inside starts and waits; what a started operation hides behind other work is not in it.
  double microseconds = 0;

  Tally& operator+=(const Tally& more) {
    calls += more.calls, payload_bytes += more.payload_bytes, wire_bytes += more.wire_bytes;
    microseconds += more.microseconds;
    return *this;
  }
};

/// One rank's tallies by kind of operation.
struct Ledger {
  std::array<Tally, collective_kinds> tallies{};

  Tally& operator[](Collective kind) { return tallies[static_cast<std::size_t>(kind)]; }
  const Tally& operator[](Collective kind) const { return tallies[static_cast<std::size_t>(kind)]; }
  [[nodiscard]] Tally total() const {
    Tally sum;
    for (const Tally& tally : tallies) sum += tally;
    return sum;
  }
  void clear() { tallies = {}; }
};

/// Operations that go to another communicator's and are written into a ledger on the way.
class RecordingOperations final : public Operations {
 public:
  RecordingOperations(std::shared_ptr<Operations> recorded, std::shared_ptr<Ledger> ledger)
      : recorded_(std::move(recorded)), ledger_(std::move(ledger)) {}

  [[nodiscard]] int rank() const override { return recorded_->rank(); }
  [[nodiscard]] int size() const override { return recorded_->size(); }
  [[nodiscard]] std::string_view name() const override { return recorded_->name(); }
  [[nodiscard]] double timeout() const override { return recorded_->timeout(); }
  void set_timeout(double seconds) override { recorded_->set_timeout(seconds); }
  [[nodiscard]] index_t wire_bytes() const override { return recorded_->wire_bytes(); }

  [[nodiscard]] int start_allreduce(std::span<float> inout) override {
    return start(Collective::allreduce, inout.size_bytes(), [&] { return recorded_->start_allreduce(inout); });
  }
  [[nodiscard]] int start_reduce_scatter(std::span<const float> in, std::span<float> mine,
                                         std::span<const index_t> counts) override {
    return start(Collective::reduce_scatter, in.size_bytes(),
                 [&] { return recorded_->start_reduce_scatter(in, mine, counts); });
  }
  [[nodiscard]] int start_allgather(std::span<const std::byte> mine, std::span<std::byte> all,
                                    std::span<const index_t> counts) override {
    return start(Collective::allgather, all.size(), [&] { return recorded_->start_allgather(mine, all, counts); });
  }
  [[nodiscard]] int start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                                   std::span<std::byte> receive, std::span<const index_t> receive_counts) override {
    return start(Collective::alltoall, send.size(),
                 [&] { return recorded_->start_alltoall(send, send_counts, receive, receive_counts); });
  }
  [[nodiscard]] int start_broadcast(std::span<std::byte> data, int root) override {
    return start(Collective::broadcast, data.size(), [&] { return recorded_->start_broadcast(data, root); });
  }
  [[nodiscard]] int start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive,
                                   int source) override {
    return start(Collective::exchange, send.size(),
                 [&] { return recorded_->start_exchange(send, dest, receive, source); });
  }
  [[nodiscard]] int start_barrier() override {
    return start(Collective::barrier, 0, [&] { return recorded_->start_barrier(); });
  }

  void wait(int operation) override {
    measured(kinds_[static_cast<std::size_t>(operation)], [&] { recorded_->wait(operation); });
  }

  /// The parts of a split write into the same ledger.
  [[nodiscard]] std::shared_ptr<Operations> split(int color, int key) override {
    return std::make_shared<RecordingOperations>(recorded_->split(color, key), ledger_);
  }

 private:
  template <class Act>
  void measured(Collective kind, Act&& act) {
    const index_t wire_before = recorded_->wire_bytes();
    const auto begin = std::chrono::steady_clock::now();
    act();
    Tally& tally = (*ledger_)[kind];
    tally.microseconds += std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
    tally.wire_bytes += recorded_->wire_bytes() - wire_before;
  }

  template <class Start>
  int start(Collective kind, std::size_t payload_bytes, Start&& start_recorded) {
    int operation = 0;
    measured(kind, [&] { operation = start_recorded(); });
    Tally& tally = (*ledger_)[kind];
    ++tally.calls;
    tally.payload_bytes += static_cast<index_t>(payload_bytes);
    if (kinds_.size() <= static_cast<std::size_t>(operation)) kinds_.resize(static_cast<std::size_t>(operation) + 1);
    kinds_[static_cast<std::size_t>(operation)] = kind;
    return operation;
  }

  std::shared_ptr<Operations> recorded_;
  std::shared_ptr<Ledger> ledger_;
  std::vector<Collective> kinds_;  // of each operation under way
};

struct Recorded {
  Communicator communicator;
  std::shared_ptr<Ledger> ledger;
};

/// A communicator that does what `communicator` does and writes it into a ledger:
///   auto [comm, ledger] = record(world);  ...  (*ledger)[Collective::allreduce].calls
[[nodiscard]] inline Recorded record(const Communicator& communicator) {
  auto ledger = std::make_shared<Ledger>();
  return {Communicator(std::make_shared<RecordingOperations>(communicator.operations(), ledger)), ledger};
}

}  // namespace tessera
