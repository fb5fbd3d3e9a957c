// Communication takes memory when a larger operation is first seen, and never after.
#include <atomic>
#include <cstdlib>
#include <new>

#include "catch.hpp"

#include "moves_only.hpp"

namespace {
std::atomic<long> allocations{0};
}

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {  // of std::stable_sort
  ++allocations;
  return std::malloc(bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

using namespace tessera;

TEST_CASE("operations that travel in rounds, of sizes seen before, allocate nothing") {
  long in_steady_state = -1;
  test::run_moves_only(12, [&](Communicator comm) {
    std::vector<float> little(5), few(4000), all(600);
    const std::vector<index_t> counts(12, 50);
    long before = 0;
    for (int step = 0; step < 70; ++step) {
      comm.barrier();
      if (step == 66) before = allocations;  // every slot of the group has seen every size by now
      Pending first = comm.start_allreduce(few);
      comm.allreduce(little);
      first.wait();
      comm.allgather<float>(std::span(all).subspan(static_cast<std::size_t>(comm.rank()) * 50, 50), std::span(all),
                            counts);
      comm.reduce_scatter(all, std::span(few).first(50), counts);
      comm.barrier();
    }
    if (comm.rank() == 0) in_steady_state = allocations - before;
    comm.barrier();
    return 0;
  });
  CHECK(in_steady_state == 0);
}

TEST_CASE("operations of sizes seen before allocate nothing") {
  long in_steady_state = -1;
  InProcess::run(3, [&](Communicator comm) {
    std::vector<float> small(10), large(50000), all(30);
    const std::vector<index_t> counts{10, 10, 10};
    const int next = (comm.rank() + 1) % 3, previous = (comm.rank() + 2) % 3;
    long before = 0;
    for (int step = 0; step < 40; ++step) {
      comm.barrier();
      if (step == 36) before = allocations;  // every slot of the group has seen every size by now
      comm.allreduce(small);
      comm.allreduce(large);
      comm.allgather<float>(small, std::span(all), counts);
      comm.alltoall<float>(all, counts, std::span(all.data(), 30), counts);
      comm.reduce_scatter(all, small, counts);
      comm.broadcast(std::span(large), 1);
      comm.start_exchange<float>(small, next, std::span(all).first(10), previous).wait();
      comm.barrier();
    }
    if (comm.rank() == 0) in_steady_state = allocations - before;
    comm.barrier();
  });
  CHECK(in_steady_state == 0);
}
