// A model that works for long: memory stays what it was, for any number of steps, of sequences and of models.
#include "catch.hpp"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>

#include <tessera/comm/in_process.hpp>
#include <tessera/runtime/vocabulary.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"

using namespace tessera;

namespace {

/// What the process holds: of the heap, of memory, open files and threads.
struct Holdings {
  std::size_t heap = 0;
  index_t resident = 0;
  index_t files = 0;
  index_t threads = 0;
};

index_t entries_of(const char* folder) {
  return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
}

Holdings holdings() {
  const struct mallinfo2 heap = ::mallinfo2();
  std::ifstream statm("/proc/self/statm");
  index_t size = 0, resident = 0;
  statm >> size >> resident;
  return {heap.uordblks + heap.hblkhd, resident * ::sysconf(_SC_PAGESIZE), entries_of("/proc/self/fd"),
          entries_of("/proc/self/task")};
}

/// What a job of two ranks finds at its middle and at its end.
struct Course {
  Holdings warm, end;
};

/// Moves within the process copy messages of up to 32 KiB into one of so many slots, which grow to the largest that
/// they have seen: where sizes vary, that takes long.
constexpr std::size_t copies_of_moves = std::size_t{in_process::slots_of_group} * 2 * (32 << 10);

void check_flat(const Course& course, index_t growth, std::size_t heap_growth = 4096) {
  INFO("heap " << course.warm.heap << " to " << course.end.heap << " bytes, resident " << course.warm.resident << " to "
               << course.end.resident);
  std::printf("heap %+td bytes, resident memory %+td KiB of %td MiB, open files %+td, threads %+td\n",
              static_cast<std::ptrdiff_t>(course.end.heap) - static_cast<std::ptrdiff_t>(course.warm.heap),
              (course.end.resident - course.warm.resident) / 1024, course.end.resident >> 20,
              course.end.files - course.warm.files, course.end.threads - course.warm.threads);
  CHECK(course.end.heap <= course.warm.heap + heap_growth);
  CHECK(course.end.resident <= course.warm.resident + growth);
  CHECK(course.end.files == course.warm.files);
  CHECK(course.end.threads == course.warm.threads);
}

/// Runs `act(model, argmax, i)` for i < count on two ranks, and looks at the middle and at the end.
template <class Act>
Course run_long(const program::Golden& golden, std::string_view sharding, index_t count, Act&& act) {
  const auto& table = program::shipped_combinations();
  const auto row = std::find_if(table.begin(), table.end(), [&](const Combination& c) {
    return c.sharding == sharding && c.softmax == "online_softmax" && c.backend == "native";
  });
  REQUIRE(row != table.end());
  Course course;
  InProcess::run(2, [&](Communicator comm) {
    const auto model = row->make(comm, golden.config, golden.weights,
                                 {.limits = {.max_tokens = 64, .max_positions = 256, .max_sequences = 4}});
    Argmax argmax;
    for (index_t i = 0; i < count; ++i) {
      if (i == count / 2 || i + 1 == count) {
        comm.barrier();  // nobody allocates meanwhile
        if (comm.rank() == 0) (i + 1 == count ? course.end : course.warm) = holdings();
        comm.barrier();
      }
      act(*model, argmax, i);
    }
  });
  return course;
}

const program::Golden& small_model() {
  static const program::Golden golden = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  return golden;
}

}  // namespace

TEST_CASE("10,000 steps of decode take no memory", "[.endurance]") {
  for (const std::string_view sharding : {"headwise", "sequence"}) {
    check_flat(run_long(small_model(), sharding, 10000,
                        [](AnyModel& model, Argmax& argmax, index_t i) {
                          if (model.length(0) == 256) model.truncate(0, 0);
                          const auto id = static_cast<token_t>(i * 31 % model.config().vocab);
                          const Chunk chunk{0, {&id, 1}, Wanted::last};
                          token_t next = 0;
                          argmax(model.comm(), model.step({&chunk, 1}), {&next, 1});
                        }),
               1 << 20);
  }
}

TEST_CASE("1,000 sequences of random lengths take no memory", "[.endurance]") {
  for (const std::string_view sharding : {"headwise", "sequence"}) {
    check_flat(run_long(small_model(), sharding, 1000,
                        [](AnyModel& model, Argmax& argmax, index_t i) {
                          // The same on every rank, and in both halves: what grows with sizes has grown by then.
                          std::mt19937 random(static_cast<unsigned>(i % 500));
                          const index_t sequence = i % 4;
                          model.truncate(sequence, 0);
                          for (auto chunks = 1 + random() % 4; chunks > 0; --chunks) {
                            std::vector<token_t> ids(1 + random() % 60);
                            for (token_t& id : ids) id = static_cast<token_t>(random() % 200);
                            const Chunk chunk{sequence, ids, Wanted::last};
                            token_t next = 0;
                            argmax(model.comm(), model.step({&chunk, 1}), {&next, 1});
                          }
                        }),
               4 << 20, copies_of_moves);
  }
}

TEST_CASE("1,000 models, made and left, hold nothing", "[.endurance]") {
  const Combination& row = program::shipped_combinations().front();
  Course course;
  for (int i = 0; i < 1000; ++i) {
    if (i == 500) course.warm = holdings();
    InProcess::run(2, [&](Communicator comm) {
      const auto model =
          row.make(comm, small_model().config, small_model().weights,
                   {.limits = {.max_tokens = 16, .max_positions = 64, .max_sequences = 1}, .threads = 2});
      const Chunk chunk{0, std::span(small_model().prompt).first(5), Wanted::last};
      (void)model->step({&chunk, 1});
    });
  }
  course.end = holdings();
  check_flat(course, 4 << 20);
}
