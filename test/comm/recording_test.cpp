// What a recording communicator counts, against hand-made formulas.
#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/comm/recording.hpp>

#include "collectives_law.hpp"

using namespace tessera;

TEST_CASE("a recording communicator obeys the law of collectives") {
  for (const std::string& findings :
       InProcess::run(4, [](Communicator comm) { return test::check_law(record(comm).communicator, 5, 50001); }))
    CHECK(findings == "");
}

TEST_CASE("a recorded operation counts once, whatever it is made of") {
  for (const int ranks : {1, 2, 4, 8}) {
    const auto ledgers = InProcess::run(ranks, [](Communicator world) {
      auto [comm, ledger] = record(world);
      std::vector<float> small(16), large(1 << 20);
      comm.allreduce(small);
      comm.allreduce(large);
      Pending pending = comm.start_allreduce(small);
      pending.wait();
      comm.broadcast(std::span(large), 0);
      comm.barrier();
      return *ledger;
    });
    const index_t p = ranks;
    for (const Ledger& ledger : ledgers) {
      const Tally& allreduce = ledger[Collective::allreduce];
      CHECK(allreduce.calls == 3);
      CHECK(allreduce.payload_bytes == 4 * (16 + (1 << 20) + 16));
      // Small: to everybody. Large: 2 (P-1)/P n, as the formula in the design.
      CHECK(allreduce.wire_bytes == 2 * 64 * (p - 1) + 2 * (4 << 20) / p * (p - 1));
      CHECK(ledger[Collective::broadcast].calls == 1);
      CHECK(ledger[Collective::broadcast].payload_bytes == 4 << 20);
      CHECK(ledger[Collective::barrier].calls == 1);
      CHECK(ledger[Collective::allgather].calls == 0);
      CHECK(ledger[Collective::alltoall].calls == 0);
      CHECK(ledger.total().calls == 5);
    }
  }
}

TEST_CASE("messages that wait for one another are counted as latencies") {
  const auto rounds = [](Collective kind, index_t bytes, index_t ranks) {
    return wire_cost(kind, bytes, ranks).rounds;
  };
  for (const auto& [ranks, doubled] : {std::pair{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {8, 3}}) {
    CHECK(rounds(Collective::allgather, 64 << 10, ranks) == doubled);
    CHECK(rounds(Collective::allgather, 1 << 20, ranks) == ranks - 1);
    CHECK(rounds(Collective::allreduce, 256, ranks) == doubled);
    CHECK(rounds(Collective::allreduce, 33 << 10, ranks) == (ranks == 1 ? 0 : 1 + doubled));
    CHECK(rounds(Collective::alltoall, 1 << 20, ranks) == (ranks == 1 ? 0 : 1));
  }
  CHECK(rounds(Collective::allgather, 0, 4) == 0);
  // Two rounds of eight ranks, twice for slices and sums; more bytes doubled, or around a ring.
  CHECK((rounds(Collective::allreduce, 256, 64) == 2 && rounds(Collective::allreduce, 33 << 10, 64) == 4));
  CHECK((rounds(Collective::allgather, 500 << 10, 64) == 6 && rounds(Collective::allgather, 512 << 10, 64) == 63));
  CHECK((rounds(Collective::allgather, 500 << 10, 6) == 5 && rounds(Collective::allreduce, 1 << 20, 64) == 64));
  // One move sends (P-1)(P-2)/P times the bytes more than two: up to 32 KiB.
  CHECK((is_one_move(32 << 10, 2) && !is_one_move((32 << 10) + 4, 2)));
  CHECK((is_one_move(21844, 4) && !is_one_move(21848, 4)));
  CHECK((is_one_move(6240, 8) && !is_one_move(6244, 8)));
}

TEST_CASE("payload and wire bytes of gathers, scatters and exchanges follow their formulas") {
  const auto ledgers = InProcess::run(3, [](Communicator world) {
    auto [comm, ledger] = record(world);
    const std::vector<index_t> counts{5, 0, 7};
    const auto mine = static_cast<std::size_t>(counts[static_cast<std::size_t>(comm.rank())]);
    std::vector<float> part(mine), whole(12);
    comm.allgather<float>(part, std::span(whole), counts);
    comm.reduce_scatter(whole, part, counts);
    comm.start_exchange<float>(
            part, (comm.rank() + 1) % 3,
            std::span(whole).first(static_cast<std::size_t>(counts[static_cast<std::size_t>((comm.rank() + 2) % 3)])),
            (comm.rank() + 2) % 3)
        .wait();
    comm.split(0, 0).barrier();
    return *ledger;
  });
  const index_t mine[] = {5, 0, 7};
  for (std::size_t r = 0; r < 3; ++r) {
    CHECK(ledgers[r][Collective::allgather].payload_bytes == 48);
    CHECK(ledgers[r][Collective::allgather].wire_bytes == 4 * mine[r] * 2);
    CHECK(ledgers[r][Collective::reduce_scatter].payload_bytes == 48);
    CHECK(ledgers[r][Collective::reduce_scatter].wire_bytes == 4 * (12 - mine[r]));
    CHECK(ledgers[r][Collective::exchange].payload_bytes == 4 * mine[r]);
    CHECK(ledgers[r][Collective::exchange].wire_bytes == 4 * mine[r]);
    CHECK(ledgers[r][Collective::barrier].calls == 1);
  }
}

TEST_CASE("one rank sends nothing, and its calls are counted") {
  auto [comm, ledger] = record(Communicator(Loopback{}));
  std::vector<float> values(1000);
  const std::vector<index_t> counts{1000};
  comm.allreduce(values);
  comm.allgather<float>(values, std::span(values), counts);
  CHECK((*ledger)[Collective::allreduce].calls == 1);
  CHECK((*ledger)[Collective::allreduce].payload_bytes == 4000);
  CHECK(ledger->total().wire_bytes == 0);
  ledger->clear();
  CHECK(ledger->total().calls == 0);
}
