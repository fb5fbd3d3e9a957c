// Activations in fewer bits: the documented bounds hold, and what it costs is counted.
#include <cmath>
#include <limits>
#include <random>

#include "catch.hpp"

#include <tessera/comm/compressed.hpp>
#include <tessera/comm/in_process.hpp>
#include <tessera/comm/recording.hpp>
#include <tessera/comm/shared_memory.hpp>

#include "collectives_law.hpp"

using namespace tessera;

namespace {

constexpr WireFormat formats[] = {WireFormat::bf16, WireFormat::q8};

std::vector<float> normal_values(int seed, index_t n) {
  std::mt19937 random(static_cast<unsigned>(seed));
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(n));
  for (index_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = normal(random) * (i % 97 == 0 ? 30.0F : 1.0F);
  return values;
}

/// The documented bound of |decoded - x| for element i.
double bound_of(WireFormat format, const std::vector<float>& x, std::size_t i) {
  if (format == WireFormat::bf16) return std::abs(x[i]) * 0x1p-8;
  double largest = 0;
  for (std::size_t j = i / 32 * 32; j < std::min(x.size(), i / 32 * 32 + 32); ++j)
    largest = std::max<double>(largest, std::abs(x[j]));
  return largest / 254 * (1 + 1e-5);
}

}  // namespace

TEST_CASE("an encoded value is as near as its format promises, and the cost is what it cost") {
  for (const WireFormat format : formats)
    for (const index_t n : {0, 1, 31, 32, 33, 1000}) {
      const auto x = normal_values(3, n);
      std::vector<std::byte> bytes(static_cast<std::size_t>(encoded_bytes(format, n)));
      std::vector<float> decoded(x.size());
      WireError error;
      encode(format, x, bytes.data(), error);
      decode(format, bytes.data(), decoded);
      double squared_error = 0, squared_values = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        INFO(name_of(format) << ", element " << i << " of " << n);
        CHECK(std::abs(decoded[i] - x[i]) <= bound_of(format, x, i));
        squared_error += std::pow(decoded[i] - x[i], 2);
        squared_values += std::pow(x[i], 2);
      }
      CHECK(error.squared_error == Approx(squared_error).epsilon(1e-4));
      CHECK(error.squared_values == Approx(squared_values).epsilon(1e-4));
    }
}

TEST_CASE("bf16 rounds to nearest even and keeps what is no number") {
  CHECK(of_bf16(bf16_of(1.0F)) == 1.0F);
  CHECK(of_bf16(bf16_of(1.0F + 0x1p-8F)) == 1.0F);  // half way: to even
  CHECK(of_bf16(bf16_of(1.0F + 3 * 0x1p-8F)) == 1.0F + 4 * 0x1p-8F);
  CHECK(of_bf16(bf16_of(-1.0F - 0x1.8p-8F)) == -1.0F - 2 * 0x1p-8F);
  CHECK(std::isinf(of_bf16(bf16_of(std::numeric_limits<float>::infinity()))));
  CHECK(std::isnan(of_bf16(bf16_of(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("in q8 a block with something that is not finite is no number as a whole, and the others are as ever") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    auto x = normal_values(3, 96);
    x[40] = bad;
    std::vector<std::byte> bytes(static_cast<std::size_t>(encoded_bytes(WireFormat::q8, 96)));
    std::vector<float> decoded(x.size());
    WireError error;
    encode(WireFormat::q8, x, bytes.data(), error);
    decode(WireFormat::q8, bytes.data(), decoded);
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(std::isnan(decoded[i]) == (i / 32 == 1));
    CHECK(std::isnan(error.relative()));
  }
}

TEST_CASE("sums in fewer bits stay within the bound, with the same bits on every rank") {
  for (const WireFormat format : formats)
    for (const int ranks : {1, 2, 3, 5})
      for (const index_t n : {1, 100, 5000, 50003}) {
        const auto sums = InProcess::run(ranks, [&](Communicator comm) {
          auto values = normal_values(comm.rank(), n);
          compressed(comm, format).allreduce(values);
          return values;
        });
        INFO(name_of(format) << ", " << ranks << " ranks, " << n << " floats");
        std::vector<std::vector<float>> terms;
        for (int r = 0; r < ranks; ++r) terms.push_back(normal_values(r, n));
        std::vector<float> exact(static_cast<std::size_t>(n));
        bool within = true;
        for (std::size_t i = 0; i < exact.size(); ++i)
          for (const auto& term : terms) exact[i] += term[i];
        for (std::size_t i = 0; i < exact.size(); ++i) {
          double bound = 1e-5;
          for (const auto& term : terms) bound += bound_of(format, term, i);
          bound += (bound_of(format, exact, i) + bound) * 1.5;  // a block's largest sum is itself off by a little
          within = within && std::abs(sums[0][i] - exact[i]) <= bound;
        }
        CHECK(within);
        for (const auto& sum : sums) CHECK(sum == sums[0]);
        if (ranks == 1) CHECK(sums[0] == exact);  // nothing travels
      }
}

TEST_CASE("reduce-scatter and gathers of activations travel in fewer bits, other operations as they are") {
  for (const WireFormat format : formats) {
    const auto problems = InProcess::run(3, [&](Communicator world) {
      Communicator comm = compressed(SharedMemory::over(world), format);
      const std::vector<index_t> counts{70, 0, 33};
      const auto mine = static_cast<std::size_t>(counts[static_cast<std::size_t>(comm.rank())]);
      std::vector<float> exact(mine), sum(mine),
          own = normal_values(9 + comm.rank(), counts[static_cast<std::size_t>(comm.rank())]);
      const auto terms = normal_values(comm.rank(), 103);
      world.reduce_scatter(terms, exact, counts);
      comm.reduce_scatter(terms, sum, counts);
      std::vector<float> all(103), gathered(103), kept(103);
      world.allgather<float>(own, std::span(all), counts);
      comm.allgather_activations(own, gathered, counts);
      comm.allgather<float>(own, std::span(kept), counts);
      double worst = 0, largest = 0;
      for (std::size_t i = 0; i < mine; ++i) worst = std::max<double>(worst, std::abs(sum[i] - exact[i]));
      for (std::size_t i = 0; i < all.size(); ++i) {
        worst = std::max<double>(worst, std::abs(gathered[i] - all[i]));
        largest = std::max<double>(largest, std::abs(all[i]));
      }
      return std::tuple(worst > 0, worst < 0.02 * 3 * largest, kept == all, gathered);
    });
    for (const auto& [differs, near, exact, gathered] : problems) {
      CHECK((differs || std::get<0>(problems[0])));  // it did travel in fewer bits
      CHECK(near);
      CHECK(exact);
      CHECK(gathered == std::get<3>(problems[0]));
    }
  }
}

TEST_CASE("bytes on the wire of sums in fewer bits follow their formula") {
  for (const WireFormat format : formats) {
    const auto ledgers = InProcess::run(4, [&](Communicator world) {
      auto [comm, ledger] = record(compressed(world, format));
      std::vector<float> small(64), large(1 << 18);
      comm.allreduce(small);
      comm.allreduce(large);
      return *ledger;
    });
    for (const Ledger& ledger : ledgers) {
      const Tally& tally = ledger[Collective::allreduce];
      CHECK(tally.payload_bytes == 4 * (64 + (1 << 18)));
      CHECK(tally.wire_bytes == 3 * encoded_bytes(format, 64) + 2 * 3 * encoded_bytes(format, 1 << 16));
    }
  }
}

TEST_CASE("the report names the format and what it cost") {
  const auto reports = InProcess::run(2, [](Communicator world) {
    Communicator comm = compressed(world, WireFormat::bf16);
    std::vector<float> values(1000, 1.0F + 0x1p-9F);
    comm.split(0, comm.rank()).allreduce(values);  // parts add to the same account
    return comm.report() + "; " + compressed(world, WireFormat::f32).report();
  });
  const double expected = 0x1p-9 / (1 + 0x1p-9);
  CHECK(reports[0].starts_with("sent as bf16 with a relative error of 0.0019"));
  CHECK(expected == Approx(0.00195).epsilon(0.01));
  CHECK(reports[0].ends_with("rank 0); "));
}

TEST_CASE("a communicator with sums in fewer bits obeys the law in everything that is exact") {
  // Integers up to 127 in blocks that hold 127 are exact in q8; here all operations but sums.
  for (const std::string& findings : InProcess::run(3, [](Communicator world) {
         Communicator comm = compressed(world, WireFormat::q8);
         test::Findings findings;
         test::check_allgather<double>(comm, findings, 5, 1000, true);
         test::check_alltoall(comm, findings, 6, 1000);
         test::check_broadcast(comm, findings, 7, 20000, 1);
         test::check_rings(comm, findings, 8, 333);
         test::check_line(comm, findings, 9, 333);
         return test::gather_findings(comm, findings);
       }))
    CHECK(findings == "");
}
