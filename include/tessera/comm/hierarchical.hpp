#pragma once
// Ranks on several machines: shared memory inside a machine, a network between machines.

#include <algorithm>
#include <exception>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <tessera/comm/agree.hpp>
#include <tessera/comm/shared_memory.hpp>
#include <tessera/comm/two_levels.hpp>

namespace tessera {
namespace detail {

/// Operations in two levels (two_levels.hpp). Exchanges go through memory where both ranks share a machine; an
/// all-to-all, in which every pair has data of its own, goes over the network as a whole. Collective operations move on
/// while they are waited for.
class HierarchicalOperations final : public Operations {
 public:
  /// `all` are all ranks, over the network; `color` is this machine's.
  HierarchicalOperations(Communicator all, TwoLevels levels, int color)
      : all_(std::move(all)),
        levels_(std::move(levels)),
        name_(concat(levels_.local().name(), " and ", all_.name())),
        color_(color) {}

  [[nodiscard]] int rank() const override { return all_.rank(); }
  [[nodiscard]] int size() const override { return all_.size(); }
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] int machine() const override { return color_; }
  [[nodiscard]] double timeout() const override { return all_.timeout(); }
  void set_timeout(double seconds) override {
    all_.set_timeout(seconds);
    levels_.set_timeout(seconds);
  }
  [[nodiscard]] index_t wire_bytes() const override { return all_.operations()->wire_bytes() + levels_.wire_bytes(); }

  [[nodiscard]] int start_allreduce(std::span<float> inout) override {
    const auto [id, op] = claim(Collective::allreduce);
    op.floats = inout;
    return id;
  }
  [[nodiscard]] int start_reduce_scatter(std::span<const float> in, std::span<float> mine,
                                         std::span<const index_t> counts) override {
    check_counts("reduce_scatter", rank(), size(), counts, static_cast<index_t>(in.size()),
                 static_cast<index_t>(mine.size()));
    const auto [id, op] = claim(Collective::reduce_scatter);
    op.terms = in, op.floats = mine;
    op.counts.assign(counts.begin(), counts.end());
    return id;
  }
  [[nodiscard]] int start_allgather(std::span<const std::byte> mine, std::span<std::byte> all,
                                    std::span<const index_t> counts) override {
    check_counts("allgather", rank(), size(), counts, static_cast<index_t>(all.size()),
                 static_cast<index_t>(mine.size()));
    const auto [id, op] = claim(Collective::allgather);
    op.send = mine, op.receive = all;
    op.counts.assign(counts.begin(), counts.end());
    return id;
  }
  [[nodiscard]] int start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                                   std::span<std::byte> receive, std::span<const index_t> receive_counts) override {
    return keep(Collective::alltoall, all_.start_alltoall<std::byte>(send, send_counts, receive, receive_counts));
  }
  [[nodiscard]] int start_deal(std::span<const std::byte> send, std::span<const index_t> counts,
                               std::span<std::byte> receive) override {
    return keep(Collective::deal, {all_.operations(), all_.operations()->start_deal(send, counts, receive)});
  }
  [[nodiscard]] int start_broadcast(std::span<std::byte> data, int root) override {
    require(0 <= root && root < size(), "broadcast: expected a root in [0, ", size(), "), found ", root);
    const auto [id, op] = claim(Collective::broadcast);
    op.receive = data, op.root = root;
    return id;
  }
  [[nodiscard]] int start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive,
                                   int source) override {
    require(no_rank <= dest && dest < size(), "exchange: expected a destination in [0, ", size(), "), found ", dest);
    require(no_rank <= source && source < size(), "exchange: expected a source in [0, ", size(), "), found ", source);
    const Range here = levels_.here();
    const auto near = [&](int r) { return here.contains(r); };
    const auto local = [&](int r) { return near(r) ? r - static_cast<int>(here.begin) : no_rank; };
    const auto far = [&](int r) { return near(r) ? no_rank : r; };
    Pending there = all_.start_exchange<std::byte>(send.first(near(dest) ? 0 : send.size()), far(dest),
                                                   receive.first(near(source) ? 0 : receive.size()), far(source));
    return keep(
        Collective::exchange, std::move(there),
        levels_.local().start_exchange<std::byte>(send.first(near(dest) ? send.size() : 0), local(dest),
                                                  receive.first(near(source) ? receive.size() : 0), local(source)));
  }
  [[nodiscard]] int start_barrier() override { return claim(Collective::barrier).id; }

  void wait(int operation) override {
    Operation& op = operations_[operation];
    switch (op.kind) {
      case Collective::allreduce: levels_.allreduce(op.floats); break;
      case Collective::reduce_scatter: levels_.reduce_scatter(op.terms, op.floats, op.counts); break;
      case Collective::allgather: levels_.allgather(op.send, op.receive, op.counts); break;
      case Collective::broadcast: levels_.broadcast(op.receive, op.root); break;
      case Collective::barrier: levels_.barrier(); break;
      case Collective::exchange: op.pending_here.wait(); [[fallthrough]];
      case Collective::alltoall:
      case Collective::deal: op.pending.wait();
    }
    operations_.release(operation);
  }

  [[nodiscard]] std::shared_ptr<Operations> split(int color, int key) override;
  [[nodiscard]] std::shared_ptr<Operations> patient() override {
    return std::make_shared<HierarchicalOperations>(Communicator(all_.operations()->patient()), levels_.patient(),
                                                    color_);
  }
  [[nodiscard]] std::shared_ptr<Operations> in_background() override {
    return std::make_shared<BackgroundOperations>(patient());
  }

 private:
  struct Operation {
    Collective kind{};
    std::span<const float> terms;
    std::span<float> floats;
    std::span<const std::byte> send;
    std::span<std::byte> receive;
    std::vector<index_t> counts;
    int root = 0;
    Pending pending, pending_here;
  };

  [[nodiscard]] OperationSlots<Operation>::Claimed claim(Collective kind) {
    const auto claimed = operations_.claim();
    claimed.operation.kind = kind;
    return claimed;
  }

  /// An operation that others have started: they may refuse it, so it takes its place afterwards.
  [[nodiscard]] int keep(Collective kind, Pending pending, Pending pending_here = {}) {
    const auto [id, op] = claim(kind);
    op.pending = std::move(pending), op.pending_here = std::move(pending_here);
    return id;
  }

  Communicator all_;
  TwoLevels levels_;
  std::string name_;
  int color_;
  OperationSlots<Operation> operations_;
};

}  // namespace detail

/// Collective. `all` in two levels, as far as its ranks share machines: shared memory alone on one machine, `all`
/// itself where no two ranks share one or where those of a machine are not consecutive. `machine` is the same on the
/// ranks of a machine (all.machine(), unless a test pretends). Errors: those of SharedMemory::over, on all ranks.
[[nodiscard]] inline Communicator hierarchical(Communicator all, int machine) {
  std::vector<int> machines(static_cast<std::size_t>(all.size()));
  all.allgather<int>(std::span(&machine, 1), std::span(machines), std::vector<index_t>(machines.size(), 1));
  std::vector<int> first;
  std::set<int> seen;
  for (int r = 0; r < all.size(); ++r) {
    const int its = machines[static_cast<std::size_t>(r)];
    if (r > 0 && its == machines[static_cast<std::size_t>(r) - 1]) continue;
    if (!seen.insert(its).second) return all;
    first.push_back(r);
  }
  if (first.size() == 1) return SharedMemory::over(all);
  if (first.size() == machines.size()) return all;
  const int mine = *std::prev(std::upper_bound(first.begin(), first.end(), all.rank()));
  first.push_back(all.size());
  Communicator here = all.split(mine, all.rank());
  Communicator leaders = all.split(mine == all.rank() ? 0 : 1, all.rank());
  // It fails on all ranks of a machine or on none of them: the other machines have to hear of it.
  std::exception_ptr fault;
  try {
    here = SharedMemory::over(here);
  } catch (const Error&) {
    fault = std::current_exception();
  }
  agree(
      all,
      [&] {
        if (fault) std::rethrow_exception(fault);
      },
      Patience::of_communicator);
  detail::TwoLevels levels(all.rank(), std::move(here), std::move(leaders), std::move(first));
  return Communicator(std::make_shared<detail::HierarchicalOperations>(std::move(all), std::move(levels), machine));
}
/// As above, with the machine that the transport reports.
[[nodiscard]] inline Communicator hierarchical(Communicator all) {
  const int machine = all.machine();
  return hierarchical(std::move(all), machine);
}

inline std::shared_ptr<Operations> detail::HierarchicalOperations::split(int color, int key) {
  return hierarchical(all_.split(color, key), color_).operations();
}

}  // namespace tessera
