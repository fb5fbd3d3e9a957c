// Shared memory between processes: many of them on few cores, and some that die.
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <new>
#include <thread>
#include <vector>

#include "catch.hpp"

#include <tessera/comm/shared_memory.hpp>
#include <tessera/comm/shared_word.hpp>

#include "collectives_law.hpp"

using namespace tessera;
using namespace std::chrono_literals;

namespace {

/// Where forked ranks meet before they share memory properly: a page for each, and a barrier.
struct MeetingPlace {
  static constexpr std::size_t bytes_each = 4096;
  pthread_barrier_t barrier;
  std::byte pages[8][bytes_each];
};

/// A transport of forked processes that can gather small things, which is what SharedMemory::over asks for.
class ForkedRanks {
 public:
  ForkedRanks(MeetingPlace& place, int rank, int size) : place_(&place), rank_(rank), size_(size) {}
  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] std::string_view name() const { return "forked"; }
  Ticket start_allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t> counts) {
    std::memcpy(place_->pages[rank_], mine.data(), mine.size());
    pthread_barrier_wait(&place_->barrier);
    std::byte* to = all.data();
    for (int r = 0; r < size_; ++r) {
      std::memcpy(to, place_->pages[r], static_cast<std::size_t>(counts[static_cast<std::size_t>(r)]));
      to += counts[static_cast<std::size_t>(r)];
    }
    pthread_barrier_wait(&place_->barrier);
    return {};
  }
  Ticket start_alltoall(std::span<const std::byte>, std::span<const index_t>, std::span<std::byte>,
                        std::span<const index_t>) {
    fail("not needed");
  }
  Ticket start_exchange(std::span<const std::byte>, int, std::span<std::byte>, int) { fail("not needed"); }
  [[nodiscard]] bool test(Ticket) { return true; }
  [[nodiscard]] ForkedRanks split(int, int) { fail("not needed"); }

 private:
  MeetingPlace* place_;
  int rank_, size_;
};

/// Forks `size` ranks; `body(communicator)` returns the exit status of each. The results by rank, as waitpid has them;
/// a rank that is still alive after `patience` is killed. A dead rank stays a zombie for `reap_after`.
std::vector<int> run_forked(int size, std::chrono::milliseconds patience, std::chrono::milliseconds reap_after,
                            const std::function<int(Communicator)>& body) {
  void* memory = ::mmap(nullptr, sizeof(MeetingPlace), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto* place = new (memory) MeetingPlace;
  pthread_barrierattr_t attributes;
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&place->barrier, &attributes, static_cast<unsigned>(size));
  std::vector<pid_t> ranks;
  for (int r = 0; r < size; ++r) {
    ranks.push_back(::fork());
    if (ranks.back() != 0) continue;
    int status = 99;
    try {
      status = body(SharedMemory::over(Communicator(ForkedRanks(*place, r, size))));
    } catch (const std::exception&) {
    }
    ::_exit(status);
  }
  std::this_thread::sleep_for(reap_after);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  std::vector<int> results(ranks.size(), -1);
  for (std::size_t left = ranks.size(); left > 0; std::this_thread::sleep_for(2ms))
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      if (results[r] != -1) continue;
      if (std::chrono::steady_clock::now() > deadline) ::kill(ranks[r], SIGKILL);
      int status = 0;
      if (::waitpid(ranks[r], &status, WNOHANG) == ranks[r]) results[r] = status, --left;
    }
  ::munmap(memory, sizeof(MeetingPlace));
  return results;
}

/// Sums until something goes wrong: 0 when nothing did in so many steps, 2 for a wrong sum, else what `told` says.
int sum_on(Communicator& comm, int steps, const std::function<void(int)>& before, const std::string& told) {
  try {
    for (int step = 0; step < steps; ++step) {
      before(step);
      const auto n = static_cast<index_t>(test::draw(5, 0, static_cast<std::uint64_t>(step)) % 3000);
      auto values = test::terms(static_cast<std::uint64_t>(step), comm.rank(), n);
      comm.allreduce(values);
      if (n > 0 && !test::same_bits(values[static_cast<std::size_t>(n) - 1],
                                    test::serial_sum(static_cast<std::uint64_t>(step), comm.size(), n - 1)))
        return 2;
    }
  } catch (const Error& error) {
    return std::string_view(error.what()).find(told) != std::string_view::npos ? 3 : 4;
  }
  return 0;
}

constexpr int exited(int status) { return status << 8; }

}  // namespace

TEST_CASE("eight processes on few cores lose no wake-up, however they sleep between sums") {
  const auto begin = std::chrono::steady_clock::now();
  const auto results = run_forked(8, 60s, 0ms, [](Communicator comm) {
    return sum_on(
        comm, 1500,
        [&](int step) {
          const std::uint64_t bits =
              test::draw(6, static_cast<std::uint64_t>(comm.rank()), static_cast<std::uint64_t>(step));
          if (bits % 40 == 0) std::this_thread::sleep_for(std::chrono::microseconds(bits / 40 % 900));
          if (bits % 7 == 0) std::this_thread::yield();
        },
        "");
  });
  CHECK(results == std::vector<int>(8, 0));
  CHECK(std::chrono::steady_clock::now() - begin < 60s);
}

TEST_CASE("when a process dies in the middle the others are told which one, long before the deadline") {
  const auto begin = std::chrono::steady_clock::now();
  const auto results = run_forked(5, 30s, 0ms, [](Communicator comm) {
    comm.set_timeout(25);
    return sum_on(
        comm, 100000,
        [&](int step) {
          if (step == 50 && comm.rank() == 2) ::raise(SIGKILL);
        },
        ") has died");
  });
  CHECK(results == std::vector<int>{exited(3), exited(3), SIGKILL, exited(3), exited(3)});
  CHECK(std::chrono::steady_clock::now() - begin < 20s);
}

TEST_CASE("when a process dies and nobody reaps it, or is stopped, the others end at the deadline") {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    const auto results = run_forked(3, 5s, 2500ms, [&](Communicator comm) {
      comm.set_timeout(0.5);
      return sum_on(
          comm, 100000,
          [&](int step) {
            if (step == 20 && comm.rank() == 0) ::raise(signal);
          },
          "waited 0.5 s");
    });
    CHECK(results == std::vector<int>{SIGKILL, exited(3), exited(3)});
  }
}

TEST_CASE("of the processes of a machine that share a word one is the first to take it, however the others end") {
  for (const int size : {1, 2, 7}) {
    auto results = run_forked(size, 30s, 0ms, [](Communicator comm) {
      const SharedWord word = SharedWord::among(comm);
      return word.value().exchange(1) == 0 ? 7 : 8;
    });
    std::sort(results.begin(), results.end());
    std::vector<int> expected(results.size(), exited(8));
    expected[0] = exited(7);
    CHECK(results == expected);
  }
}
