#pragma once
// Counts what a communicator is asked to do: calls, payload, bytes on the wire and time, per kind of operation.

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/trace.hpp>

namespace tessera {

/// What one rank did with one kind of operation.
struct Tally {
  index_t calls = 0;
  /// As asked for, whatever the algorithm: allreduce and broadcast, the size of the data; allgather, of what is
  /// gathered from all ranks; reduce_scatter, of what is summed; alltoall, deal and exchange, of what this rank sends.
  index_t payload_bytes = 0;
  /// What left this rank, a piece counted once per rank that receives it; in rounds, once per rank that it is handed
  /// to.
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

/// The names of a collective's two events: its start, and its end from when somebody waits for it.
[[nodiscard]] consteval auto trace_names_of_collectives() {
  std::array<std::array<TraceName, 2>, collective_kinds> names;
  for (std::size_t k = 0; k < names.size(); ++k) {
    const std::string_view name = name_of(static_cast<Collective>(k));
    names[k] = {TraceName{name, TraceKind::start, "bytes"}, TraceName{name, TraceKind::collective, "bytes"}};
  }
  return names;
}
/// In a trace: each kind of operation, when it is started and while it is waited for.
inline constexpr auto trace_collectives = trace_names_of_collectives();

/// Operations that go to another communicator's and are written into a ledger, and a lane of a trace, on the way.
class RecordingOperations final : public Operations {
 public:
  /// `lane` may be nullptr; `group` is equal on the ranks of this communicator, and differs from those of others.
  RecordingOperations(std::shared_ptr<Operations> recorded, std::shared_ptr<Ledger> ledger, TraceLane* lane,
                      std::uint64_t group = 0)
      : recorded_(std::move(recorded)), ledger_(std::move(ledger)), lane_(lane), group_(group) {}

  [[nodiscard]] int rank() const override { return recorded_->rank(); }
  [[nodiscard]] int size() const override { return recorded_->size(); }
  [[nodiscard]] std::string_view name() const override { return recorded_->name(); }
  [[nodiscard]] std::string report() const override { return recorded_->report(); }
  [[nodiscard]] double timeout() const override { return recorded_->timeout(); }
  void set_timeout(double seconds) override { recorded_->set_timeout(seconds); }
  [[nodiscard]] index_t wire_bytes() const override { return recorded_->wire_bytes(); }
  [[nodiscard]] int machine() const override { return recorded_->machine(); }

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
  [[nodiscard]] int start_allgather_activations(std::span<const float> mine, std::span<float> all,
                                                std::span<const index_t> counts) override {
    return start(Collective::allgather, all.size_bytes(),
                 [&] { return recorded_->start_allgather_activations(mine, all, counts); });
  }
  [[nodiscard]] int start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                                   std::span<std::byte> receive, std::span<const index_t> receive_counts) override {
    return start(Collective::alltoall, send.size(),
                 [&] { return recorded_->start_alltoall(send, send_counts, receive, receive_counts); });
  }
  [[nodiscard]] int start_deal(std::span<const std::byte> send, std::span<const index_t> counts,
                               std::span<std::byte> receive) override {
    return start(Collective::deal, send.size(), [&] { return recorded_->start_deal(send, counts, receive); });
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
    const Started& started = started_[static_cast<std::size_t>(operation)];
    measured(started.kind, TraceKind::collective, started.bytes, [&] { recorded_->wait(operation); });
  }

  /// The parts of a split write into the same ledger and lane. All ranks split alike, so the numbers of groups agree.
  [[nodiscard]] std::shared_ptr<Operations> split(int color, int key) override {
    const std::uint64_t group = ((group_ * 64 + ++splits_) << 20) + static_cast<std::uint64_t>(color) + 1;
    return std::make_shared<RecordingOperations>(recorded_->split(color, key), ledger_, lane_, group);
  }
  [[nodiscard]] std::shared_ptr<Operations> patient() override {
    return std::make_shared<RecordingOperations>(recorded_->patient(), ledger_, lane_, group_);
  }
  [[nodiscard]] std::shared_ptr<Operations> in_background() override {
    return std::make_shared<RecordingOperations>(recorded_->in_background(), ledger_, lane_, group_);
  }

 private:
  struct Started {
    Collective kind;
    index_t bytes;
  };

  template <class Act>
  void measured(Collective kind, TraceKind phase, index_t bytes, Act&& act) {
    const index_t wire_before = recorded_->wire_bytes();
    const std::int64_t begin = trace_clock();
    act();
    const std::int64_t end = trace_clock();
    Tally& tally = (*ledger_)[kind];
    tally.microseconds += static_cast<double>(end - begin) / 1e3;
    tally.wire_bytes += recorded_->wire_bytes() - wire_before;
    if (lane_ == nullptr) return;
    const auto& names = trace_collectives[static_cast<std::size_t>(kind)];
    lane_->add({&names[phase == TraceKind::start ? 0 : 1], begin, end, bytes, group_});
  }

  template <class Start>
  int start(Collective kind, std::size_t payload_bytes, Start&& start_recorded) {
    int operation = 0;
    const auto bytes = static_cast<index_t>(payload_bytes);
    measured(kind, TraceKind::start, bytes, [&] { operation = start_recorded(); });
    Tally& tally = (*ledger_)[kind];
    ++tally.calls;
    tally.payload_bytes += bytes;
    if (started_.size() <= static_cast<std::size_t>(operation))
      started_.resize(static_cast<std::size_t>(operation) + 1);
    started_[static_cast<std::size_t>(operation)] = {kind, bytes};
    return operation;
  }

  std::shared_ptr<Operations> recorded_;
  std::shared_ptr<Ledger> ledger_;
  TraceLane* lane_;
  std::uint64_t group_;
  std::uint64_t splits_ = 0;
  std::vector<Started> started_;  // operations under way
};

/// A communicator that counts, and where it writes.
struct Recorded {
  Communicator communicator;
  std::shared_ptr<Ledger> ledger;
};

/// A communicator that does what `communicator` does and writes it into a ledger:
///   auto [comm, ledger] = record(world);  ...  (*ledger)[Collective::allreduce].calls
/// and, where there is one, into the lane of the thread that communicates.
[[nodiscard]] inline Recorded record(const Communicator& communicator, TraceLane* lane = nullptr) {
  auto ledger = std::make_shared<Ledger>();
  return {Communicator(std::make_shared<RecordingOperations>(communicator.operations(), ledger, lane)), ledger};
}

}  // namespace tessera
