#pragma once
// Which of several communicators of the same ranks carries an operation: the fastest for its kind and size, measured.

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <vector>

#include <tessera/comm/communicator.hpp>

namespace tessera {

/// For every kind of operation and class of sizes the number of the candidate that carries it; the same on all ranks.
///
/// Law: all ranks of an operation find the same number. Where sizes differ from rank to rank (all-to-all, exchange) one
/// class serves all sizes, so that they need not ask each other.
class CollectiveChoice {
 public:
  /// The kinds that are chosen for; every other one goes as one of them.
  static constexpr std::array kinds = {Collective::allreduce, Collective::allgather, Collective::reduce_scatter,
                                       Collective::alltoall, Collective::exchange};
  /// The one of `kinds` whose choice carries an operation: the one whose data moves alike.
  [[nodiscard]] static constexpr Collective chosen_as(Collective kind) {
    switch (kind) {
      case Collective::deal: return Collective::alltoall;
      case Collective::broadcast: return Collective::allgather;
      case Collective::barrier: return Collective::allreduce;  // of no bytes
      default: return kind;
    }
  }

  static constexpr std::size_t classes = 4;
  static constexpr std::array<index_t, classes> largest = {4 << 10, 64 << 10, 512 << 10,
                                                           std::numeric_limits<index_t>::max()};  ///< bytes
  static constexpr std::array<index_t, classes> measured = {1 << 10, 16 << 10, 128 << 10, 2 << 20};

  [[nodiscard]] static constexpr std::size_t class_of(Collective kind, index_t bytes) {
    if (chosen_as(kind) == Collective::alltoall || kind == Collective::exchange) return 2;
    std::size_t c = 0;
    while (bytes > largest[c]) ++c;
    return c;
  }

  [[nodiscard]] std::size_t operator()(Collective kind, index_t bytes) const { return at(kind)[class_of(kind, bytes)]; }
  /// For one of `kinds`.
  void set(Collective kind, std::size_t size_class, std::size_t number) {
    table_[static_cast<std::size_t>(kind)][size_class] = number;
  }

  /// "allreduce, exchange: shared memory; alltoall: mpi": what carries each of `kinds`, with the sizes where they
  /// matter. One name alone when it carries everything.
  [[nodiscard]] std::string describe(std::span<const std::string> names) const {
    std::vector<std::pair<std::string, std::string>> groups;  // what carries -> which kinds
    for (const Collective kind : kinds) {
      const std::string by = carriers(kind, names);
      const auto found = std::find_if(groups.begin(), groups.end(), [&](const auto& each) { return each.first == by; });
      if (found == groups.end())
        groups.emplace_back(by, name_of(kind));
      else
        found->second += concat(", ", name_of(kind));
    }
    if (groups.size() == 1) return groups.front().first;
    std::string text;
    for (const auto& [by, kinds] : groups) text += concat(text.empty() ? "" : "; ", kinds, ": ", by);
    return text;
  }

  friend bool operator==(const CollectiveChoice&, const CollectiveChoice&) = default;

 private:
  [[nodiscard]] const std::array<std::size_t, classes>& at(Collective kind) const {
    return table_[static_cast<std::size_t>(chosen_as(kind))];
  }
  [[nodiscard]] std::string carriers(Collective kind, std::span<const std::string> names) const {
    const auto& row = at(kind);
    const auto name = [&](std::size_t c) { return std::string_view(names[row[c]]); };
    if (class_of(kind, 0) == class_of(kind, largest.back())) return std::string(name(class_of(kind, 0)));
    std::string text(name(0));
    for (std::size_t c = 1; c < classes; ++c)
      if (row[c] != row[c - 1]) text += concat(" to ", largest[c - 1] >> 10, " KiB, then ", name(c));
    return text;
  }

  std::array<std::array<std::size_t, classes>, collective_kinds> table_{};
};

namespace detail {

/// Operations that go to one of several communicators of the same ranks.
class ChoosingOperations final : public Operations {
 public:
  ChoosingOperations(std::vector<Communicator> candidates, CollectiveChoice choice)
      : candidates_(std::move(candidates)), choice_(choice), name_(candidates_[0].name()) {
    for (std::size_t i = 1; i < candidates_.size(); ++i) name_ += concat(" or ", candidates_[i].name());
  }

  [[nodiscard]] int rank() const override { return candidates_[0].rank(); }
  [[nodiscard]] int size() const override { return candidates_[0].size(); }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] int machine() const override { return candidates_[0].machine(); }
  [[nodiscard]] double timeout() const override { return candidates_[0].timeout(); }
  void set_timeout(double seconds) override {
    for (Communicator& each : candidates_) each.set_timeout(seconds);
  }
  [[nodiscard]] index_t wire_bytes() const override {
    index_t bytes = 0;
    for (const Communicator& each : candidates_) bytes += each.operations()->wire_bytes();
    return bytes;
  }

  [[nodiscard]] int start_allreduce(std::span<float> inout) override {
    return start(Collective::allreduce, inout.size_bytes(), [&](Operations& by) { return by.start_allreduce(inout); });
  }
  [[nodiscard]] int start_reduce_scatter(std::span<const float> in, std::span<float> mine,
                                         std::span<const index_t> counts) override {
    return start(Collective::reduce_scatter, in.size_bytes(),
                 [&](Operations& by) { return by.start_reduce_scatter(in, mine, counts); });
  }
  [[nodiscard]] int start_allgather(std::span<const std::byte> mine, std::span<std::byte> all,
                                    std::span<const index_t> counts) override {
    return start(Collective::allgather, all.size(),
                 [&](Operations& by) { return by.start_allgather(mine, all, counts); });
  }
  [[nodiscard]] int start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                                   std::span<std::byte> receive, std::span<const index_t> receive_counts) override {
    return start(Collective::alltoall, 0,
                 [&](Operations& by) { return by.start_alltoall(send, send_counts, receive, receive_counts); });
  }
  [[nodiscard]] int start_deal(std::span<const std::byte> send, std::span<const index_t> counts,
                               std::span<std::byte> receive) override {
    return start(Collective::deal, 0, [&](Operations& by) { return by.start_deal(send, counts, receive); });
  }
  [[nodiscard]] int start_broadcast(std::span<std::byte> data, int root) override {
    return start(Collective::broadcast, data.size(), [&](Operations& by) { return by.start_broadcast(data, root); });
  }
  [[nodiscard]] int start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive,
                                   int source) override {
    return start(Collective::exchange, 0,
                 [&](Operations& by) { return by.start_exchange(send, dest, receive, source); });
  }
  [[nodiscard]] int start_barrier() override {
    return start(Collective::barrier, 0, [](Operations& by) { return by.start_barrier(); });
  }

  void wait(int operation) override {
    const Started& started = operations_[operation];
    started.by->wait(started.operation);
    operations_.release(operation);
  }

  [[nodiscard]] std::shared_ptr<Operations> split(int color, int key) override {
    std::vector<Communicator> parts;
    for (Communicator& each : candidates_) parts.push_back(each.split(color, key));
    return std::make_shared<ChoosingOperations>(std::move(parts), choice_);
  }
  [[nodiscard]] std::shared_ptr<Operations> patient() override {
    std::vector<Communicator> again;
    for (Communicator& each : candidates_) again.emplace_back(each.operations()->patient());
    return std::make_shared<ChoosingOperations>(std::move(again), choice_);
  }
  [[nodiscard]] std::shared_ptr<Operations> in_background() override {
    return std::make_shared<BackgroundOperations>(patient());
  }

 private:
  struct Started {
    Operations* by = nullptr;
    int operation = 0;
  };

  template <class Start>
  int start(Collective kind, std::size_t bytes, Start&& start_by) {
    Operations& by = *candidates_[choice_(kind, static_cast<index_t>(bytes))].operations();
    const auto [id, started] = operations_.claim();
    started = {&by, start_by(by)};
    return id;
  }

  std::vector<Communicator> candidates_;
  CollectiveChoice choice_;
  std::string name_;
  OperationSlots<Started> operations_;
};

}  // namespace detail
}  // namespace tessera
