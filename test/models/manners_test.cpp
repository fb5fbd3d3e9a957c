// A model among the other parts of a program: moved, beside another one, inside OpenMP regions, after an error.
#include "catch.hpp"

#include <atomic>
#include <type_traits>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/io/mapped_file.hpp>
#include <tessera/runtime/generate.hpp>
#include <tessera/runtime/instances.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"
#if defined(TESSERA_OPENMP)
#include <omp.h>
#endif

using namespace tessera;
using program::Golden;

namespace {

const Golden& golden() {
  static const Golden loaded = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  return loaded;
}

/// A row of every sharding: its first softmax, and the scalar backend.
std::vector<Combination> every_sharding() {
  std::vector<Combination> rows;
  for (const Combination& row : program::shipped_combinations())
    if (row.softmax == OnlineSoftmax::name && row.backend == "scalar") rows.push_back(row);
  return rows;
}

std::unique_ptr<AnyModel> make(const Combination& row, Communicator comm, int threads = 1) {
  return row.make(comm, golden().config, golden().weights,
                  {.limits = {.max_tokens = 40, .max_positions = 80, .max_sequences = 2}, .threads = threads});
}

std::vector<token_t> continuation(AnyModel& model) {
  std::vector<token_t> ids;
  generate_greedily(model, 0, golden().prompt, static_cast<index_t>(golden().greedy.size()), [&](token_t id) {
    ids.push_back(id);
    return true;
  });
  return ids;
}

/// Copies of Transformer would copy a cache of gigabytes unasked; moves must not throw, so that vectors move them.
template <class T>
constexpr bool moves_only = std::is_nothrow_move_constructible_v<T>&& std::is_nothrow_move_assignable_v<T> &&
                            !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;

#define TESSERA_X(sharding, softmax, backend) static_assert(moves_only<Transformer<sharding, softmax, backend>>);
TESSERA_EACH_COMBINATION
#undef TESSERA_X
static_assert(moves_only<Buffer<float>> && moves_only<KvCache> && moves_only<MappedFile> && moves_only<OwnedRanks>);

}  // namespace

#define TESSERA_SHARDING_AND_COMMA(sharding) Transformer<sharding, OnlineSoftmax, ScalarBackend>,
using EveryModel = std::tuple<TESSERA_EACH_SHARDING(TESSERA_SHARDING_AND_COMMA) Transformer<HeadWise>>;
TEMPLATE_LIST_TEST_CASE("a model that is moved between two steps goes on as if it had not been", "[manners]",
                        EveryModel) {
  const auto said = InProcess::run(2, [&](Communicator comm) {
    TransformerOptions options{.limits = {.max_tokens = 40, .max_positions = 80}, .threads = 2};
    std::vector<TestType> models;
    models.emplace_back(comm, golden().config, golden().weights, options);
    Argmax argmax;
    token_t next = 0;
    argmax(comm, prefill(models.back(), 0, golden().prompt, [](index_t) {}), {&next, 1});
    std::vector<token_t> ids;
    for (std::size_t n = 0; n < golden().greedy.size(); ++n) {
      ids.push_back(next);
      TestType elsewhere = std::move(models.back());  // construction
      const Chunk chunk{0, {&next, 1}, Wanted::last};
      argmax(comm, elsewhere.step({&chunk, 1}), {&next, 1});
      if (n % 2 == 0)
        models.back() = std::move(elsewhere);  // assignment to what was moved from
      else
        models.clear(), models.push_back(std::move(elsewhere));
    }
    return ids;
  });
  for (const auto& ids : said) CHECK(ids == golden().greedy);
}

TEST_CASE("a step that throws changes nothing", "[manners]") {
  for (const Combination& row : every_sharding()) {
    if (row.is_hybrid()) continue;
    INFO(row.sharding << ", decode " << row.decode);
    const auto said = InProcess::run(2, [&](Communicator comm) {
      const auto model = make(row, comm);
      const std::vector<token_t> good = {1, 2},
                                 bad = {1, golden().config.vocab > 0 ? token_t(golden().config.vocab) : 0}, many(41, 1);
      const auto refuses = [&](std::vector<Chunk> chunks) {
        try {
          model->step(chunks);
        } catch (const Error&) {
          return model->length(0) == 0 && model->length(1) == 0;
        }
        return false;
      };
      const bool refused = refuses({{0, bad}}) && refuses({{0, good}, {1, bad}}) && refuses({{0, many}}) &&
                           refuses({{0, good}, {0, good}}) && refuses({{2, good}}) && refuses({{0, {}}});
      return refused ? continuation(*model) : std::vector<token_t>{};
    });
    for (const auto& ids : said) CHECK(ids == golden().greedy);
  }
}

TEST_CASE("when another rank fails in a step, this one throws and keeps the lengths of its sequences", "[manners]") {
  for (const Combination& row : every_sharding()) {
    if (row.is_hybrid()) continue;
    INFO(row.sharding << ", decode " << row.decode);
    index_t length = -1;
    bool thrown = false;
    std::atomic<bool> first_is_done = false;  // rank 0 may be in its first step while rank 1 is through
    CHECK_THROWS_WITH(InProcess::run(2,
                                     [&](Communicator comm) {
                                       const auto model = make(row, comm);
                                       const Chunk first{0, std::span(golden().prompt).first(20), Wanted::none};
                                       model->step({&first, 1});
                                       if (comm.rank() == 1) {
                                         first_is_done.wait(false);
                                         fail("a rank is lost");
                                       }
                                       first_is_done = true;
                                       first_is_done.notify_one();
                                       try {
                                         const Chunk rest{0, std::span(golden().prompt).subspan(20), Wanted::last};
                                         model->step({&rest, 1});
                                       } catch (...) {
                                         thrown = true;
                                         length = model->length(0);
                                         throw;
                                       }
                                     }),
                      "a rank is lost");
    CHECK(thrown);
    CHECK(length == 20);
  }
}

TEST_CASE("a model that cannot be made throws, and leaves the communicator as it was", "[manners]") {
  for (const Combination& row : every_sharding()) {
    if (row.is_hybrid()) continue;
    const auto said = InProcess::run(2, [&](Communicator comm) {
      const auto impossible = [&](Limits limits, int threads) {
        try {
          row.make(comm, golden().config, golden().weights, {.limits = limits, .threads = threads});
        } catch (const Error&) {
          return true;
        }
        return false;
      };
      const bool refused = impossible({.max_positions = 1 << 20}, 1) && impossible({.max_positions = 8}, 0) &&
                           impossible({.max_tokens = 1, .max_positions = 8, .max_sequences = 2}, 1);
      const auto model = make(row, comm);
      return refused ? continuation(*model) : std::vector<token_t>{};
    });
    for (const auto& ids : said) CHECK(ids == golden().greedy);
  }
}

TEST_CASE("two models of one process take turns on communicators of their own", "[manners]") {
  const std::vector<Combination> rows = every_sharding();
  const auto said = InProcess::run(2, [&](Communicator comm) {
    const auto first = make(rows.front(), comm), second = make(rows[2], comm.split(comm.rank(), 0), 2);
    std::vector<token_t> ids[2];
    AnyModel* models[] = {first.get(), second.get()};
    token_t next[2];
    Argmax argmax[2];
    for (int m = 0; m < 2; ++m)
      argmax[m](models[m]->comm(), prefill(*models[m], 0, golden().prompt, [](index_t) {}), {&next[m], 1});
    for (std::size_t n = 0; n < golden().greedy.size(); ++n)
      for (int m = 0; m < 2; ++m) {
        ids[m].push_back(next[m]);
        const Chunk chunk{0, {&next[m], 1}, Wanted::last};
        argmax[m](models[m]->comm(), models[m]->step({&chunk, 1}), {&next[m], 1});
      }
    return ids[0] == golden().greedy && ids[1] == golden().greedy;
  });
  for (const bool good : said) CHECK(good);
}

#if defined(TESSERA_OPENMP)
TEST_CASE("a model obeys the caller's OpenMP settings and leaves them as they are", "[manners]") {
  const Combination row = every_sharding().front();
  const int threads = omp_get_max_threads(), dynamic = omp_get_dynamic(), levels = omp_get_max_active_levels();
  for (const bool fewer : {false, true}) {
    omp_set_dynamic(fewer ? 1 : 0);  // the runtime may then give a team less than it asks for
    omp_set_num_threads(1);
    CHECK(continuation(*make(row, Loopback{}, 3)) == golden().greedy);
    CHECK(omp_get_max_threads() == 1);
    CHECK(omp_get_dynamic() == (fewer ? 1 : 0));
  }
  omp_set_dynamic(dynamic);
  omp_set_num_threads(threads);
  for (const int nested : {1, 2}) {  // inside a region of the caller: one thread, or as many as asked for
    omp_set_max_active_levels(nested);
    bool good[2] = {false, false};
#pragma omp parallel num_threads(2)
    {
      const auto me = static_cast<std::size_t>(omp_get_thread_num());
      good[me] = continuation(*make(row, Loopback{}, 2)) == golden().greedy;
    }
    CHECK(good[0]);
    CHECK(good[1]);
    CHECK(omp_get_max_active_levels() == nested);
  }
  omp_set_max_active_levels(levels);
}
#endif
