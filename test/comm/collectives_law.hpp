#pragma once
// The law of every communicator, as checks that run on one rank and return what they found wrong; nothing is asserted
// between two collectives. References are scalar and computed from the seed alone.

#include <bit>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include <tessera/comm/communicator.hpp>

namespace tessera::test {

/// What went wrong on one rank; the first few are enough.
class Findings {
 public:
  template <class... Parts>
  void expect(bool holds, const Parts&... parts) {
    if (!holds && texts_.size() < 5) texts_.push_back(concat(parts...));
  }
  [[nodiscard]] const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::vector<std::string> texts_;
};

/// Every rank's findings, on every rank.
inline std::string gather_findings(Communicator comm, const Findings& findings) {
  std::string mine;
  for (const std::string& text : findings.texts()) mine += concat("rank ", comm.rank(), ": ", text, "\n");
  const auto ranks = static_cast<std::size_t>(comm.size());
  const std::vector<index_t> one_each(ranks, 1);
  std::vector<index_t> sizes(ranks);
  const auto size = static_cast<index_t>(mine.size());
  comm.allgather<index_t>(std::span(&size, 1), sizes, one_each);
  std::string all(static_cast<std::size_t>(std::accumulate(sizes.begin(), sizes.end(), index_t{0})), ' ');
  comm.allgather<char>(mine, std::span(all), sizes);
  return all;
}

/// A counter-based generator: any element of any rank's data, without the ones before.
inline std::uint64_t draw(std::uint64_t seed, std::uint64_t rank, std::uint64_t i) {
  std::uint64_t x = seed * 0x9E3779B97F4A7C15U + rank * 0xD1B54A32D192ED03U + i * 0x8CB92BA72F3D8DD7U + 1;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

/// Floats of very different sizes and both signs, so that another order of summation gives other bits.
inline float term(std::uint64_t seed, int rank, index_t i) {
  const std::uint64_t bits = draw(seed, static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(i));
  const float unit = static_cast<float>(bits >> 40) * 0x1p-24F - 0.5F;
  return unit *
         std::bit_cast<float>(static_cast<std::uint32_t>(127 + bits % 24) << 23);  // times 2 to the power 0 to 23
}

inline float serial_sum(std::uint64_t seed, int ranks, index_t i) {
  float sum = term(seed, 0, i);
  for (int r = 1; r < ranks; ++r) sum += term(seed, r, i);
  return sum;
}

inline bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// Elements to look at: all of a small array, about 1,000 of a large one, with its ends.
template <class Look>
void for_samples(index_t n, Look&& look) {
  const index_t step = n <= 1200 ? 1 : n / 1009;
  for (index_t i = 0; i < n; i += step) look(i);
  if (n > 0) look(n - 1);
}

inline std::vector<float> terms(std::uint64_t seed, int rank, index_t n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (index_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = term(seed, rank, i);
  return values;
}

/// Uneven and often zero: how much of something rank r has.
inline std::vector<index_t> uneven_counts(std::uint64_t seed, int ranks, index_t most) {
  std::vector<index_t> counts(static_cast<std::size_t>(ranks));
  for (int r = 0; r < ranks; ++r) {
    const std::uint64_t bits = draw(seed, 77, static_cast<std::uint64_t>(r));
    counts[static_cast<std::size_t>(r)] =
        bits % 3 == 0 ? 0 : static_cast<index_t>((bits >> 8) % static_cast<std::uint64_t>(most + 1));
  }
  return counts;
}

inline index_t begin_of(const std::vector<index_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank, index_t{0});
}
inline index_t total_of(std::span<const index_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), index_t{0});
}

inline void check_allreduce(Communicator& comm, Findings& findings, std::uint64_t seed, index_t n) {
  auto values = terms(seed, comm.rank(), n + 1);  // one more, to be left alone
  comm.allreduce(std::span(values).first(static_cast<std::size_t>(n)));
  for_samples(n, [&](index_t i) {
    findings.expect(same_bits(values[static_cast<std::size_t>(i)], serial_sum(seed, comm.size(), i)), "allreduce of ",
                    n, " floats: element ", i, " is not the sum in rank order");
  });
  findings.expect(same_bits(values.back(), term(seed, comm.rank(), n)), "allreduce wrote past its end");
}

inline void check_reduce_scatter(Communicator& comm, Findings& findings, std::uint64_t seed, index_t most) {
  const auto counts = uneven_counts(seed, comm.size(), most);
  const index_t mine = counts[static_cast<std::size_t>(comm.rank())], first = begin_of(counts, comm.rank());
  const auto in = terms(seed, comm.rank(), total_of(counts));
  std::vector<float> sum(static_cast<std::size_t>(mine + 1), -7);
  comm.reduce_scatter(in, std::span(sum).first(static_cast<std::size_t>(mine)), counts);
  for_samples(mine, [&](index_t i) {
    findings.expect(same_bits(sum[static_cast<std::size_t>(i)], serial_sum(seed, comm.size(), first + i)),
                    "reduce_scatter: element ", i, " of ", mine, " is not the sum in rank order");
  });
  findings.expect(sum.back() == -7, "reduce_scatter wrote past its end");
}

template <class T>
void check_allgather(Communicator& comm, Findings& findings, std::uint64_t seed, index_t most, bool in_place) {
  const auto value = [&](int r, index_t i) {
    return static_cast<T>(draw(seed, static_cast<std::uint64_t>(r), static_cast<std::uint64_t>(i)) >> 33);
  };
  const auto counts = uneven_counts(seed, comm.size(), most);
  const index_t mine = counts[static_cast<std::size_t>(comm.rank())];
  std::vector<T> own(static_cast<std::size_t>(mine));
  for (index_t i = 0; i < mine; ++i) own[static_cast<std::size_t>(i)] = value(comm.rank(), i);
  std::vector<T> all(static_cast<std::size_t>(total_of(counts) + 1), T(3));
  const auto gathered = std::span(all).first(all.size() - 1);
  const auto place = gathered.subspan(static_cast<std::size_t>(begin_of(counts, comm.rank())), own.size());
  if (in_place) std::copy(own.begin(), own.end(), place.begin());
  comm.allgather<T>(in_place ? place : std::span(own), gathered, counts);
  for (int r = 0; r < comm.size(); ++r)
    for_samples(counts[static_cast<std::size_t>(r)], [&](index_t i) {
      findings.expect(all[static_cast<std::size_t>(begin_of(counts, r) + i)] == value(r, i), "allgather: element ", i,
                      " of rank ", r, " differs");
    });
  findings.expect(all.back() == T(3), "allgather wrote past its end");
}

inline void check_alltoall(Communicator& comm, Findings& findings, std::uint64_t seed, index_t most) {
  const int ranks = comm.size();
  const auto piece = [&](int from, int to) {
    const std::uint64_t bits = draw(seed, static_cast<std::uint64_t>(from), static_cast<std::uint64_t>(to));
    return bits % 3 == 0 ? index_t{0} : static_cast<index_t>(bits % static_cast<std::uint64_t>(most + 1));
  };
  const auto value = [&](int from, int to, index_t i) {
    return static_cast<std::int32_t>(
        draw(seed + 1, static_cast<std::uint64_t>(from * 64 + to), static_cast<std::uint64_t>(i)));
  };
  std::vector<index_t> send_counts, receive_counts;
  std::vector<std::int32_t> send;
  for (int r = 0; r < ranks; ++r) {
    send_counts.push_back(piece(comm.rank(), r));
    receive_counts.push_back(piece(r, comm.rank()));
    for (index_t i = 0; i < send_counts.back(); ++i) send.push_back(value(comm.rank(), r, i));
  }
  std::vector<std::int32_t> receive(static_cast<std::size_t>(total_of(receive_counts) + 1), 5);
  comm.alltoall<std::int32_t>(send, send_counts, std::span(receive).first(receive.size() - 1), receive_counts);
  for (int r = 0; r < ranks; ++r)
    for_samples(receive_counts[static_cast<std::size_t>(r)], [&](index_t i) {
      findings.expect(receive[static_cast<std::size_t>(begin_of(receive_counts, r) + i)] == value(r, comm.rank(), i),
                      "alltoall: element ", i, " from rank ", r, " differs");
    });
  findings.expect(receive.back() == 5, "alltoall wrote past its end");
}

inline void check_deal(Communicator& comm, Findings& findings, std::uint64_t seed, index_t most) {
  const int ranks = comm.size();
  const auto value = [&](int from, int to, index_t i) {
    return static_cast<std::int32_t>(
        draw(seed + 2, static_cast<std::uint64_t>(from * 64 + to), static_cast<std::uint64_t>(i)));
  };
  const auto counts = uneven_counts(seed, ranks, most);
  const index_t mine = counts[static_cast<std::size_t>(comm.rank())];
  std::vector<std::int32_t> send;
  for (int r = 0; r < ranks; ++r)
    for (index_t i = 0; i < counts[static_cast<std::size_t>(r)]; ++i) send.push_back(value(comm.rank(), r, i));
  std::vector<std::int32_t> receive(static_cast<std::size_t>(mine * ranks + 1), 5);
  comm.deal<std::int32_t>(send, counts, std::span(receive).first(receive.size() - 1));
  for (int r = 0; r < ranks; ++r)
    for_samples(mine, [&](index_t i) {
      findings.expect(receive[static_cast<std::size_t>(r * mine + i)] == value(r, comm.rank(), i), "deal: element ", i,
                      " from rank ", r, " differs");
    });
  findings.expect(receive.back() == 5, "deal wrote past its end");
}

inline void check_broadcast(Communicator& comm, Findings& findings, std::uint64_t seed, index_t n, int root) {
  auto data = terms(seed, comm.rank(), n);
  comm.broadcast(std::span(data), root);
  for_samples(n, [&](index_t i) {
    findings.expect(same_bits(data[static_cast<std::size_t>(i)], term(seed, root, i)), "broadcast of ", n,
                    " floats from ", root, ": element ", i, " differs");
  });
}

/// Twice around, in both directions at a time: after P steps each rank has seen all others' data.
inline void check_rings(Communicator& comm, Findings& findings, std::uint64_t seed, index_t n) {
  const int ranks = comm.size(), rank = comm.rank(), next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
  auto up = terms(seed, rank, n), down = up;
  auto up_received = up, down_received = down;
  for (int step = 1; step <= ranks; ++step) {
    Pending upwards = comm.start_exchange<float>(up, next, std::span(up_received), previous);
    Pending downwards = comm.start_exchange<float>(down, previous, std::span(down_received), next);
    upwards.wait();
    downwards.wait();
    std::swap(up, up_received);
    std::swap(down, down_received);
    for_samples(n, [&](index_t i) {
      const auto at = static_cast<std::size_t>(i);
      findings.expect(same_bits(up[at], term(seed, (rank + ranks * 2 - step) % ranks, i)), "ring up, step ", step);
      findings.expect(same_bits(down[at], term(seed, (rank + step) % ranks, i)), "ring down, step ", step);
    });
  }
}

/// A line: the ends have nobody on one side.
inline void check_line(Communicator& comm, Findings& findings, std::uint64_t seed, index_t n) {
  const int rank = comm.rank(), dest = rank + 1 < comm.size() ? rank + 1 : no_rank, source = rank - 1;
  static_assert(no_rank == -1);
  const auto send = terms(seed, rank, dest == no_rank ? 0 : n);
  std::vector<float> receive(static_cast<std::size_t>(source == no_rank ? 0 : n));
  comm.start_exchange<float>(send, dest, std::span(receive), source).wait();
  for_samples(static_cast<index_t>(receive.size()), [&](index_t i) {
    findings.expect(same_bits(receive[static_cast<std::size_t>(i)], term(seed, source, i)), "line: element ", i);
  });
}

/// Groups by rank modulo `colors`, each in reverse order of rank; the parts and the whole are used in turns.
inline void check_split(Communicator& comm, Findings& findings, std::uint64_t seed, int colors) {
  Communicator part = comm.split(comm.rank() % colors, -comm.rank());
  std::vector<int> members;
  for (int r = comm.size() - 1; r >= 0; --r)
    if (r % colors == comm.rank() % colors) members.push_back(r);
  findings.expect(part.size() == static_cast<int>(members.size()), "split: size ", part.size());
  if (part.size() != static_cast<int>(members.size())) return;
  findings.expect(members[static_cast<std::size_t>(part.rank())] == comm.rank(), "split: order");
  for (const index_t n : {3, 20000}) {
    auto of_part = terms(seed, comm.rank(), n);
    auto of_all = of_part;
    Pending whole = comm.start_allreduce(of_all);
    part.allreduce(of_part);
    whole.wait();
    check_allgather<std::int16_t>(part, findings, seed + 3, 50, false);
    for_samples(n, [&](index_t i) {
      float sum = term(seed, members[0], i);
      for (std::size_t m = 1; m < members.size(); ++m) sum += term(seed, members[m], i);
      findings.expect(same_bits(of_part[static_cast<std::size_t>(i)], sum), "split: sum of a part, element ", i);
      findings.expect(same_bits(of_all[static_cast<std::size_t>(i)], serial_sum(seed, comm.size(), i)),
                      "split: sum of the whole beside a part, element ", i);
    });
  }
}

/// Several operations under way, of small and large kinds, waited for in the order in which they were started.
inline void check_several_at_once(Communicator& comm, Findings& findings, std::uint64_t seed) {
  const index_t sizes[] = {1, 9000, 17, 40000, 0, 64, 12000, 5};
  std::vector<std::vector<float>> values;
  std::vector<Pending> under_way;
  for (const index_t n : sizes) values.push_back(terms(seed + static_cast<std::uint64_t>(n), comm.rank(), n));
  for (auto& each : values) under_way.push_back(comm.start_allreduce(each));
  for (Pending& pending : under_way) pending.wait();
  for (std::size_t k = 0; k < values.size(); ++k)
    for_samples(sizes[k], [&](index_t i) {
      const float sum = serial_sum(seed + static_cast<std::uint64_t>(sizes[k]), comm.size(), i);
      findings.expect(same_bits(values[k][static_cast<std::size_t>(i)], sum), "several at once: allreduce ", k,
                      ", element ", i);
    });
}

/// Operations drawn from the seed, one after the other, with nothing between them.
inline void check_stress(Communicator& comm, Findings& findings, std::uint64_t seed, int operations) {
  for (int k = 0; k < operations; ++k) {
    const std::uint64_t bits = draw(seed, 1234, static_cast<std::uint64_t>(k));
    const auto n = static_cast<index_t>((bits >> 20) % (bits % 16 == 0 ? 20000 : 200));
    const std::uint64_t own_seed = seed + static_cast<std::uint64_t>(k);
    switch ((bits >> 8) % 8) {
      case 0: check_allreduce(comm, findings, own_seed, n); break;
      case 1: check_reduce_scatter(comm, findings, own_seed, n); break;
      case 2: check_allgather<double>(comm, findings, own_seed, n, (bits & 1) != 0); break;
      case 3: check_alltoall(comm, findings, own_seed, n); break;
      case 4: check_broadcast(comm, findings, own_seed, n, static_cast<int>(bits >> 40) % comm.size()); break;
      case 5: check_line(comm, findings, own_seed, n); break;
      case 6: comm.barrier(); break;
      case 7: check_deal(comm, findings, own_seed, n / comm.size()); break;
    }
  }
}

/// The whole law; `large` floats is the size of the largest operations.
inline std::string check_law(Communicator comm, std::uint64_t seed, index_t large) {
  Findings findings;
  for (const index_t n : {index_t{0}, index_t{1}, index_t{2}, index_t{3}, index_t{15}, index_t{1001}, index_t{8192},
                          index_t{8193}, index_t{100003}, large}) {
    check_allreduce(comm, findings, seed + static_cast<std::uint64_t>(n), n);
    check_broadcast(comm, findings, seed + 1 + static_cast<std::uint64_t>(n), n, comm.size() - 1);
    check_broadcast(comm, findings, seed + 2 + static_cast<std::uint64_t>(n), n, 0);
  }
  for (const index_t most : {index_t{0}, index_t{1}, index_t{7}, index_t{1000}, large / comm.size()}) {
    check_reduce_scatter(comm, findings, seed + 3, most);
    check_allgather<double>(comm, findings, seed + 4, most, false);
    check_allgather<std::int16_t>(comm, findings, seed + 5, most, true);
    check_alltoall(comm, findings, seed + 6, most / comm.size());
    check_deal(comm, findings, seed + 6, most / comm.size());
  }
  for (const index_t n : {0, 1, 333, 20000}) {
    check_rings(comm, findings, seed + 7, n);
    check_line(comm, findings, seed + 8, n);
  }
  for (const int colors : {1, 2, 3}) check_split(comm, findings, seed + 9, colors);
  check_several_at_once(comm, findings, seed + 10);
  check_stress(comm, findings, seed + 11, 200);
  return gather_findings(comm, findings);
}

}  // namespace tessera::test
