// Few bytes among many ranks: the rounds as arithmetic, the routes of all ranks on one thread, and what they send.
#include <cmath>
#include <string>

#include "catch.hpp"

#include <tessera/comm/compressed.hpp>
#include <tessera/comm/recording.hpp>
#include <tessera/comm/route.hpp>

#include "collectives_law.hpp"
#include "moves_only.hpp"

using namespace tessera;
using detail::Route;

namespace {

std::byte byte_of(std::uint64_t seed, index_t from, index_t to, index_t i) {
  return static_cast<std::byte>(
      test::draw(seed, static_cast<std::uint64_t>(from * 1000 + to), static_cast<std::uint64_t>(i)) >> 20);
}

/// Moves what all ranks' routes send until they are done; returns the bytes that were sent, or -1 where two of them, or
/// counts and memory, do not agree.
index_t travel(std::span<Route> routes) {
  index_t sent = 0;
  for (int round = 0; !routes.front().done(); ++round) {
    if (round > 10) return -1;  // three are enough for 512 ranks
    for (Route& route : routes) {
      if (route.done()) return -1;
      route.pack();
      if (test::total_of(route.send_counts()) != std::ssize(route.sent())) return -1;
      if (test::total_of(route.receive_counts()) != std::ssize(route.received())) return -1;
    }
    for (std::size_t to = 0; to < routes.size(); ++to) {
      std::byte* received = routes[to].received().data();
      for (std::size_t from = 0; from < routes.size(); ++from) {
        const auto counts = routes[from].send_counts();
        const index_t bytes = counts[to];
        if (bytes != routes[to].receive_counts()[from]) return -1;
        received = std::copy_n(routes[from].sent().data() + test::total_of(counts.first(to)), bytes, received);
        sent += bytes;
      }
    }
    for (Route& route : routes) route.unpack();
  }
  return sent;
}

/// Deals among so many ranks; what went wrong, or nothing.
std::string fault_of_deal(std::span<Route> routes, std::uint64_t seed) {
  const auto ranks = static_cast<int>(routes.size());
  const std::vector<index_t> counts = test::uneven_counts(seed, ranks, 19);
  std::vector<std::vector<std::byte>> sent(routes.size()), terms(routes.size());
  for (int r = 0; r < ranks; ++r) {
    const auto at = static_cast<std::size_t>(r);
    for (int to = 0; to < ranks; ++to)
      for (index_t i = 0; i < counts[static_cast<std::size_t>(to)]; ++i) sent[at].push_back(byte_of(seed, r, to, i));
    terms[at].resize(static_cast<std::size_t>(counts[at] * ranks));
    routes[at].deal(Rounds::among(ranks), r, sent[at], counts, terms[at]);
  }
  const index_t expected = test::total_of(counts) * Rounds::among(ranks).moves(), bytes = travel(routes);
  if (bytes != expected) return concat(ranks, " ranks deal: expected ", expected, " bytes sent, found ", bytes);
  for (int r = 0; r < ranks; ++r)
    for (int from = 0; from < ranks; ++from)
      for (index_t i = 0, n = counts[static_cast<std::size_t>(r)]; i < n; ++i)
        if (terms[static_cast<std::size_t>(r)][static_cast<std::size_t>(from * n + i)] != byte_of(seed, from, r, i))
          return concat(ranks, " ranks deal: another byte ", i, " of rank ", from, " on rank ", r);
  return {};
}

/// Gathers among so many ranks, every second of which has its piece in its place already.
std::string fault_of_gather(std::span<Route> routes, std::uint64_t seed) {
  const auto ranks = static_cast<int>(routes.size());
  const std::vector<index_t> counts = test::uneven_counts(seed, ranks, 19);
  const index_t total = test::total_of(counts);
  std::vector<std::vector<std::byte>> mine(routes.size()), all(routes.size());
  std::vector<std::byte> expected;
  for (int r = 0; r < ranks; ++r) {
    const auto at = static_cast<std::size_t>(r);
    for (index_t i = 0; i < counts[at]; ++i) mine[at].push_back(byte_of(seed, r, 0, i));
    all[at].resize(static_cast<std::size_t>(total));
    std::span<const std::byte> piece = mine[at];
    if (r % 2 == 1) {
      const std::span<std::byte> place = std::span(all[at]).subspan(expected.size(), piece.size());
      std::copy(piece.begin(), piece.end(), place.begin());
      piece = place;
    }
    routes[at].gather(Rounds::among(ranks), r, piece, all[at], counts);
    expected.insert(expected.end(), mine[at].begin(), mine[at].end());
  }
  if (const index_t bytes = travel(routes); bytes != total * (ranks - 1))
    return concat(ranks, " ranks gather: expected ", total * (ranks - 1), " bytes sent, found ", bytes);
  for (int r = 0; r < ranks; ++r)
    if (all[static_cast<std::size_t>(r)] != expected) return concat(ranks, " ranks gather: another whole on rank ", r);
  return {};
}

}  // namespace

TEST_CASE("rounds are as few as groups of eight ranks allow, and reach every distance") {
  for (index_t ranks = 1; ranks <= 700; ++ranks) {
    const Rounds rounds = Rounds::among(ranks);
    INFO(ranks << " ranks: " << rounds.count << " rounds of " << rounds.radix);
    CHECK(rounds.radix <= Rounds::most_together);
    CHECK(rounds.span(rounds.count) >= ranks);
    CHECK((rounds.count == 0 || std::pow(Rounds::most_together, rounds.count - 1) < static_cast<double>(ranks)));
    index_t messages = 0, moves = 0;
    for (index_t k = 0, span = 1; k < rounds.count; ++k, span *= rounds.radix) {
      CHECK(rounds.span(k) == span);
      index_t highest = 0;
      for (index_t d = 0; d < ranks; ++d) {
        const index_t digit = d / span % rounds.radix;
        highest = std::max(highest, digit), moves += digit != 0 ? 1 : 0;
      }
      messages += highest;
    }
    CHECK(rounds.messages() == messages);
    CHECK(rounds.moves() == moves);
  }
  CHECK((Rounds::among(64).count == 2 && Rounds::among(64).messages() == 14 && Rounds::among(64).moves() == 112));
  CHECK((Rounds::among(256).count == 3 && Rounds::among(256).messages() == 17));
}

TEST_CASE("what is dealt in rounds reaches its rank from every other, on any number of ranks") {
  for (std::size_t ranks = 1; ranks <= 80; ++ranks) {
    std::vector<Route> routes(ranks);
    CHECK(fault_of_deal(routes, ranks) == "");
  }
}

TEST_CASE("what is gathered in rounds is everywhere once, on any number of ranks") {
  for (std::size_t ranks = 1; ranks <= 80; ++ranks) {
    std::vector<Route> routes(ranks);
    CHECK(fault_of_gather(routes, ranks + 100) == "");
  }
}

TEST_CASE("a route carries one operation after another, of either kind and of any size") {
  std::vector<Route> routes(80);
  for (const std::size_t ranks : {70, 9, 64, 12, 80, 2, 16, 11, 65}) {
    const std::span<Route> some = std::span(routes).first(ranks);
    CHECK(fault_of_deal(some, ranks + 200) == "");
    CHECK(fault_of_gather(some, ranks + 300) == "");
    CHECK(fault_of_gather(some, ranks + 400) == "");
    CHECK(fault_of_deal(some, ranks + 500) == "");
  }
}

TEST_CASE("few bytes among many ranks travel in rounds, and a fixed rule says how few") {
  CHECK((!travels_in_rounds(16 << 10, 8) && !travels_in_rounds(16 << 10, 10) && travels_in_rounds(16 << 10, 16)));
  CHECK((travels_in_rounds(71 << 10, 16) && !travels_in_rounds(72 << 10, 16)));
  CHECK((travels_in_rounds(470 << 10, 64) && !travels_in_rounds(471 << 10, 64)));
  CHECK(!travels_in_rounds((1 << 20) + 1, 4096));
  // Sixteen kilobytes on 64 ranks: twice two rounds of seven messages in place of twice 63.
  const WireCost sum = wire_cost(Collective::allreduce, 16 << 10, 64);
  CHECK((sum.rounds == 4 && sum.messages == 28 && sum.bytes == (16 << 10) * (112 + 63) / 64));
}

TEST_CASE("sums that travel in rounds have the bits of the sum in rank order, and send what the formula says") {
  for (const int ranks : {8, 11, 12, 16, 23, 64, 70}) {
    const index_t even = 16 * ranks;  // a cache line of each rank's
    const auto results = test::run_moves_only(ranks, [&](Communicator world) {
      auto [comm, ledger] = record(world);
      test::Findings findings;
      std::vector<std::pair<Collective, index_t>> sizes;
      std::vector<index_t> sent;
      const auto note = [&](Collective kind, index_t bytes) {
        sizes.emplace_back(kind, bytes), sent.push_back(ledger->total().wire_bytes);
        ledger->clear();
      };
      for (const index_t n : {index_t{1}, index_t{37}, even, 2 * even, 2 * even + 5, 40 * even}) {
        test::check_allreduce(comm, findings, static_cast<std::uint64_t>(n), n);
        if (n % even == 0) note(Collective::allreduce, 4 * n);
        ledger->clear();
      }
      const std::vector<index_t> counts(static_cast<std::size_t>(ranks), 5);
      std::vector<float> mine = test::terms(1, comm.rank(), 5), all(static_cast<std::size_t>(5 * ranks));
      comm.allgather<float>(mine, std::span(all), counts);
      note(Collective::allgather, 20 * ranks);
      all = test::terms(2, comm.rank(), 5 * ranks);
      comm.reduce_scatter(all, mine, counts);
      note(Collective::reduce_scatter, 20 * ranks);
      for (index_t i = 0; i < 5; ++i)
        findings.expect(
            test::same_bits(mine[static_cast<std::size_t>(i)], test::serial_sum(2, ranks, 5 * comm.rank() + i)),
            "reduce_scatter: element ", i, " is not the sum in rank order");
      std::vector<float> terms(all.size());
      comm.deal<float>(all, counts, std::span(terms));
      note(Collective::deal, 20 * ranks);
      comm.barrier();
      note(Collective::barrier, 0);
      return std::tuple(sizes, sent, test::gather_findings(world, findings));
    });
    for (std::size_t k = 0; k < std::get<0>(results.front()).size(); ++k) {
      const auto [kind, bytes] = std::get<0>(results.front())[k];
      index_t sent = 0;
      for (const auto& result : results) sent += std::get<1>(result)[k];
      INFO(name_of(kind) << " of " << bytes << " bytes, " << ranks << " ranks");
      CHECK(sent == ranks * wire_cost(kind, bytes, ranks).bytes);
    }
    CHECK(std::get<2>(results.front()) == "");
  }
}

TEST_CASE("sums in fewer bits that travel in rounds are those that travel at once") {
  for (const WireFormat format : {WireFormat::bf16, WireFormat::q8})
    for (const index_t n : {100, 4096, 4099}) {
      const int ranks = 16;
      const auto sums = [&](Communicator comm) {
        std::vector<float> values = test::terms(7, comm.rank(), n);
        compressed(comm, format).allreduce(values);
        return values;
      };
      const auto in_rounds = test::run_moves_only(ranks, sums);
      CHECK(in_rounds == InProcess::run(ranks, [&](Communicator comm) { return sums(std::move(comm)); }));
      CHECK(std::count(in_rounds.begin(), in_rounds.end(), in_rounds.front()) == ranks);
    }
}

TEST_CASE("several operations that travel in rounds are under way at a time") {
  for (const std::string& findings : test::run_moves_only(12, [](Communicator comm) {
         test::Findings found;
         test::check_several_at_once(comm, found, 5);
         test::check_split(comm, found, 6, 1);
         return test::gather_findings(comm, found);
       }))
    CHECK(findings == "");
}
