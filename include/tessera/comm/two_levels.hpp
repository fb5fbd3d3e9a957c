#pragma once
// Collectives in two levels: memory that the ranks of a machine share, a network between the machines' first ranks.

#include <algorithm>
#include <array>
#include <vector>

#include <tessera/comm/communicator.hpp>

namespace tessera::detail {

/// Sums run in rank order, so that machines cannot sum at the same time: a large sum passes from machine to machine in
/// blocks, each of which adds the terms of its ranks, and comes back from the last one. Every machine but the last
/// sends n floats on, whatever its number of ranks. Of a small sum every machine gets all terms at once: one message
/// between any two; of one in between, the terms of a slice, and then the sums of all slices (sum_of_machines). Every
/// operation returns when it has finished.
class TwoLevels {
 public:
  /// `local` are the ranks of this machine, in order; `leaders` the first of each machine, used by them alone. first[m]
  /// is the first rank of machine m; one more for the end.
  TwoLevels(int rank, Communicator local, Communicator leaders, std::vector<int> first)
      : local_(std::move(local)), leaders_(std::move(leaders)), first_(std::move(first)) {
    while (first_[at(machine_) + 1] <= rank) ++machine_;
    for (int m = 0; m < machines(); ++m) most_ranks_ = std::max(most_ranks_, ranks_of(m));
  }

  /// Collective.
  [[nodiscard]] TwoLevels patient() {
    return {static_cast<int>(here().begin), Communicator(local_.operations()->patient()),
            Communicator(leaders_.operations()->patient()), first_};
  }

  [[nodiscard]] Communicator& local() { return local_; }
  /// The ranks of this machine.
  [[nodiscard]] Range here() const { return {first_[at(machine_)], first_[at(machine_) + 1]}; }
  [[nodiscard]] index_t wire_bytes() const {
    return local_.operations()->wire_bytes() + leaders_.operations()->wire_bytes();
  }
  void set_timeout(double seconds) {
    local_.set_timeout(seconds);
    leaders_.set_timeout(seconds);
  }

  void allreduce(std::span<float> inout) {
    if (inout.empty()) return;
    switch (sum_of_machines(float_bytes(inout.size()), machines(), most_ranks_, float_bytes(block_floats))) {
      case SumOfMachines::one_move: sum_in_one_move(inout); break;
      case SumOfMachines::slices: sum_in_slices(inout); break;
      case SumOfMachines::blocks: return sum_in_blocks(inout, true);
    }
    local_.broadcast(inout, 0);
  }

  void reduce_scatter(std::span<const float> in, std::span<float> mine, std::span<const index_t> counts) {
    const auto n = static_cast<index_t>(in.size());
    if (n == 0) return;
    const std::span<float> data = memory_.floats(n);
    std::copy(in.begin(), in.end(), data.begin());
    sum_in_blocks(data, false);
    const auto here = data.subspan(at(before(counts, first_[at(machine_)])));
    if (leads()) {  // the last machine has the sum, and deals it out
      of_machines(counts, machine_counts_);
      const bool deals = machine_ == machines() - 1;
      const index_t share = machine_counts_[at(machine_)];
      counts_.assign(at(machines()), 0);
      counts_.back() = share;
      if (!deals) machine_counts_.assign(at(machines()), 0);
      leaders_.alltoall<float>(deals ? data : data.first(0), machine_counts_, share_.floats(share), counts_);
      std::copy_n(share_.data(), share, here.begin());
    }
    counts_.assign(at(local_.size()), 0);
    counts_.front() = static_cast<index_t>(mine.size());
    machine_counts_.assign(counts.begin() + first_[at(machine_)], counts.begin() + first_[at(machine_) + 1]);
    if (!leads()) machine_counts_.assign(at(local_.size()), 0);
    local_.alltoall<float>(leads() ? here.first(at(before(machine_counts_, local_.size()))) : here.first(0),
                           machine_counts_, mine, counts_);
  }

  void allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t> counts) {
    const index_t begin = before(counts, first_[at(machine_)]);
    const index_t end = before(counts, first_[at(machine_) + 1]);
    const auto here = all.subspan(at(begin), at(end - begin));
    local_.allgather<std::byte>(mine, here, counts.subspan(at(first_[at(machine_)]), at(local_.size())));
    if (leads()) {
      of_machines(counts, machine_counts_);
      leaders_.allgather<std::byte>(here, all, machine_counts_);
    }
    local_.broadcast(all.first(at(begin)), 0);
    local_.broadcast(all.subspan(at(end)), 0);
  }

  void broadcast(std::span<std::byte> data, int root) {
    int from = 0;
    while (first_[at(from) + 1] <= root) ++from;
    if (machine_ == from) local_.broadcast(data, root - first_[at(from)]);
    if (leads()) leaders_.broadcast(data, from);
    if (machine_ != from) local_.broadcast(data, 0);
  }

  void barrier() {
    local_.barrier();
    if (leads()) leaders_.barrier();
    local_.barrier();
  }

 private:
  static constexpr index_t block_floats = 64 << 10;
  static constexpr std::size_t blocks_under_way = 3;

  [[nodiscard]] int size() const { return first_.back(); }
  [[nodiscard]] bool leads() const { return local_.rank() == 0; }
  [[nodiscard]] int machines() const { return static_cast<int>(first_.size()) - 1; }
  /// counts[m] := what the ranks of machine m have of `each`; returns the sum.
  void of_machines(std::span<const index_t> each, std::vector<index_t>& counts) const {
    counts.assign(at(machines()), 0);
    for (int m = 0; m < machines(); ++m)
      for (int r = first_[at(m)]; r < first_[at(m) + 1]; ++r) counts[at(m)] += each[at(r)];
  }
  /// What ranks before `rank` have of `each`.
  [[nodiscard]] static index_t before(std::span<const index_t> each, int rank) {
    index_t sum = 0;
    for (int r = 0; r < rank; ++r) sum += each[at(r)];
    return sum;
  }

  [[nodiscard]] index_t ranks_of(int machine) const { return first_[at(machine) + 1] - first_[at(machine)]; }

  /// The leaders' inout := the sum.
  void sum_in_one_move(std::span<float> inout) {
    const auto n = static_cast<index_t>(inout.size());
    const std::span<float> terms = memory_.floats(n * size());
    const auto here = terms.subspan(at(first_[at(machine_)] * n), at(local_.size() * n));
    gather_here(inout, here);
    if (!leads()) return;
    counts_.assign(at(size()), n);
    of_machines(counts_, machine_counts_);
    leaders_.allgather<float>(here, terms, machine_counts_);
    sum_in_rank_order(size(), memory_.data(), inout);
  }
  void sum_in_slices(std::span<float> inout) {
    const auto n = static_cast<index_t>(inout.size());
    const index_t ranks_here = local_.size();
    const std::span<float> here = memory_.floats(n * ranks_here);
    gather_here(inout, here);
    if (!leads()) return;
    const index_t mine = slice(n, machine_).size();
    const std::span<float> sent = memory_before_.floats(n * ranks_here), terms = share_.floats(mine * size());
    counts_.assign(at(machines()), 0), machine_counts_.assign(at(machines()), 0);
    float* to = sent.data();
    for (int m = 0; m < machines(); ++m) {
      const Range part = slice(n, m);
      for (index_t r = 0; r < ranks_here; ++r) to = std::copy_n(here.data() + r * n + part.begin, part.size(), to);
      counts_[at(m)] = ranks_here * part.size(), machine_counts_[at(m)] = ranks_of(m) * mine;
    }
    leaders_.alltoall<float>(sent, counts_, terms, machine_counts_);
    const std::span<float> sum = inout.subspan(at(slice(n, machine_).begin), at(mine));
    sum_in_rank_order(size(), share_.data(), sum);
    for (int m = 0; m < machines(); ++m) counts_[at(m)] = slice(n, m).size();
    leaders_.allgather<float>(sum, inout, counts_);
  }
  [[nodiscard]] Range slice(index_t n, int machine) const { return partition(n, machines(), machine, 16); }
  /// here := what the ranks of this machine have to add.
  void gather_here(std::span<const float> mine, std::span<float> here) {
    counts_.assign(at(local_.size()), static_cast<index_t>(mine.size()));
    local_.allgather<float>(mine, here, counts_);
  }

  /// data := the sum, on all ranks or, unless `everywhere`, on the last machine's leader. Sums come back while later
  /// blocks are on their way.
  void sum_in_blocks(std::span<float> data, bool everywhere) {
    const auto block = [&](std::size_t b) {
      const std::size_t begin = b * at(block_floats);
      return data.subspan(begin, std::min(at(block_floats), data.size() - begin));
    };
    const std::size_t blocks = (data.size() + at(block_floats) - 1) / at(block_floats);
    for (std::size_t b = 0; b < blocks + blocks_under_way; ++b) {
      if (b >= blocks_under_way && everywhere) {
        coming_back_[b % blocks_under_way].wait();
        local_.broadcast(block(b - blocks_under_way), 0);
      }
      if (b >= blocks) continue;
      pass_on(block(b));
      if (leads() && everywhere)
        coming_back_[b % blocks_under_way] = leaders_.start_broadcast(block(b), machines() - 1);
    }
  }

  /// Machine m adds the terms of its ranks to the sum of those before, and sends it on to m + 1. All leaders start and
  /// finish every message, in one order, for it is an operation of their group.
  void pass_on(std::span<float> block) {
    if (leads())
      for (int m = 1; m <= machine_; ++m) {
        const bool mine = m == machine_;
        const std::span<float> sum = memory_before_.floats(static_cast<index_t>(mine ? block.size() : 0));
        leaders_.start_exchange<float>({}, no_rank, sum, mine ? m - 1 : no_rank).wait();
        if (mine) add(sum, block);
      }
    counts_.assign(at(local_.size()), 0);
    counts_.front() = static_cast<index_t>(block.size());
    local_.reduce_scatter(block, leads() ? block : block.first(0), counts_);
    if (leads())
      for (int m = machine_ + 1; m < machines(); ++m) {
        const bool mine = m == machine_ + 1;
        leaders_
            .start_exchange<float>(block.first(mine ? block.size() : 0), mine ? m : no_rank, std::span<float>(),
                                   no_rank)
            .wait();
      }
  }
  /// A sum of two has no order: block + sum has the bits of sum + block.
  static void add(std::span<const float> sum, std::span<float> block) {
    sum_in_rank_order(
        2, [&](int p) { return p == 0 ? block.data() : sum.data(); }, block);
  }

  Communicator local_, leaders_;
  std::vector<int> first_;
  int machine_ = 0;
  index_t most_ranks_ = 0;  ///< of a machine
  GrowingBuffer memory_, memory_before_, share_;
  std::vector<index_t> counts_, machine_counts_;
  std::array<Pending, blocks_under_way> coming_back_;
};

}  // namespace tessera::detail
