// A step takes a ragged batch: several sequences, prefill and decode mixed. One at a time is the reference.

#include "catch.hpp"

#include <map>
#include <random>

#include <tessera/tessera.hpp>

#include "program/golden.hpp"

using namespace tessera;

namespace {

using Rows = std::vector<std::vector<float>>;

/// What happens to a sequence in one step.
struct Event {
  index_t sequence;
  index_t count;
};

std::vector<token_t> some_ids(index_t n, unsigned seed, index_t vocab) {
  std::mt19937 random(seed);
  std::vector<token_t> ids(static_cast<std::size_t>(n));
  for (token_t& id : ids) id = static_cast<token_t>(random() % static_cast<unsigned>(vocab));
  return ids;
}

/// All logits of every sequence, on rank 0, when steps of events are run; a sequence's ids are drawn from its number.
template <class Model>
std::map<index_t, Rows> run_events(const program::Golden& g, Communicator comm,
                                   const std::vector<std::vector<Event>>& steps) {
  Model model(comm, g.config, g.weights, {.limits = {.max_tokens = 64, .max_positions = 80, .max_sequences = 3}});
  std::map<index_t, Rows> rows;
  std::map<index_t, std::vector<token_t>> ids;
  for (index_t s = 0; s < 3; ++s) ids[s] = some_ids(80, static_cast<unsigned>(s), g.config.vocab);
  for (const auto& events : steps) {
    std::vector<Chunk> chunks;
    for (const Event& e : events)
      chunks.push_back(
          {e.sequence,
           std::span<const token_t>(ids[e.sequence])
               .subspan(static_cast<std::size_t>(model.length(e.sequence)), static_cast<std::size_t>(e.count)),
           Wanted::all});
    const Buffer<float> logits = gather_logits(comm, model.step(chunks), {comm.rank(), comm.size()}, g.config.vocab);
    const float* row = logits.data();
    for (const Event& e : events)
      for (index_t i = 0; i < e.count; ++i, row += g.config.vocab)
        rows[e.sequence].emplace_back(row, row + g.config.vocab);
  }
  return rows;
}

double largest_difference(const Rows& a, const Rows& b) {
  double most = a.size() == b.size() ? 0 : INFINITY;
  for (std::size_t r = 0; r < std::min(a.size(), b.size()); ++r)
    for (std::size_t i = 0; i < a[r].size(); ++i)
      most = std::max(most, std::abs(static_cast<double>(a[r][i]) - b[r][i]));
  return most;
}

template <class Sharding, class Softmax>
void batches_equal_singles(int ranks) {
  using Model = Transformer<Sharding, Softmax, XsimdBackend<>>;
  const program::Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  // Prompts of unequal length together, decode of all, a late prompt's chunk among decodes, decode of two.
  const std::vector<std::vector<Event>> together = {{{0, 7}, {2, 19}},         {{0, 1}, {2, 1}},
                                                    {{2, 1}, {1, 16}, {0, 1}}, {{0, 1}, {1, 1}, {2, 1}},
                                                    {{1, 5}, {0, 1}},          {{2, 1}, {1, 1}}};
  std::vector<std::vector<Event>> alone;
  for (const auto& events : together)
    for (const Event& e : events) alone.push_back({e});
  std::map<index_t, Rows> batched, single;
  InProcess::run(ranks, [&](Communicator comm) {
    auto rows = run_events<Model>(g, comm, together);
    if (comm.rank() == 0) batched = std::move(rows);
  });
  InProcess::run(1, [&](Communicator comm) { single = run_events<Model>(g, comm, alone); });
  for (index_t s = 0; s < 3; ++s) {
    INFO(Sharding::name << ", " << Softmax::name << ", " << ranks << " ranks, sequence " << s);
    CHECK(largest_difference(batched[s], single[s]) <= 2e-3);  // logits have a deviation of about 8
  }
}

}  // namespace

TEMPLATE_TEST_CASE("a ragged batch gives each sequence the logits that it gets alone", "",
                   (std::pair<HeadWise, OnlineSoftmax>), (std::pair<HeadWise, StandardSoftmax>),
                   (std::pair<Sequence<>, OnlineSoftmax>), (std::pair<Sequence<>, StandardSoftmax>)) {
  for (const int ranks : {1, 2, 3, 5})
    batches_equal_singles<typename TestType::first_type, typename TestType::second_type>(ranks);
}

TEMPLATE_TEST_CASE("a sequence that was cut back continues as if the rest had never been", "", HeadWise, Sequence<>) {
  const program::Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  const std::vector<token_t> ids = some_ids(40, 9, g.config.vocab);
  for (const int ranks : {1, 3}) {
    Rows cut, straight;
    InProcess::run(ranks, [&](Communicator comm) {
      using Model = Transformer<TestType>;
      Model model(comm, g.config, g.weights, {.limits = {.max_tokens = 64, .max_positions = 80, .max_sequences = 1}});
      const auto all = std::span<const token_t>(ids);
      const Chunk first{0, all, Wanted::none}, tail{0, all.subspan(10, 9), Wanted::last};
      model.step({&first, 1});
      model.truncate(0, 10);
      const Buffer<float> a = gather_logits(comm, model.step({&tail, 1}), {comm.rank(), comm.size()}, g.config.vocab);
      model.truncate(0, 0);
      const Chunk head{0, all.first(10), Wanted::none};
      model.step({&head, 1});
      const Buffer<float> b = gather_logits(comm, model.step({&tail, 1}), {comm.rank(), comm.size()}, g.config.vocab);
      if (comm.rank() == 0) {
        cut.emplace_back(a.data(), a.data() + a.size());
        straight.emplace_back(b.data(), b.data() + b.size());
      }
    });
    CHECK(largest_difference(cut, straight) <= 2e-3);  // the chunks differed, and with them the rounding
  }
}

TEST_CASE("a step that cannot be is refused and changes nothing") {
  const program::Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  Transformer<HeadWise> model(Loopback{}, g.config, g.weights,
                              {.limits = {.max_tokens = 8, .max_positions = 12, .max_sequences = 2}});
  const std::vector<token_t> good = {1, 2, 3}, bad = {1, 320}, negative = {-1}, many(9, 1);
  const auto step = [&](std::vector<Chunk> chunks) { return [&model, chunks] { model.step(chunks); }; };
  CHECK_THROWS_WITH(step({{0, bad, Wanted::last}})(), Catch::Contains("expected 0 to 319, found 320"));
  CHECK_THROWS_WITH(step({{0, negative, Wanted::last}})(), Catch::Contains("found -1"));
  CHECK_THROWS_WITH(step({{0, many, Wanted::last}})(), Catch::Contains("planned for 8 tokens"));
  CHECK_THROWS_WITH(step({{2, good, Wanted::last}})(), Catch::Contains("found sequence 2"));
  CHECK_THROWS_WITH(step({{0, {}, Wanted::last}})(), Catch::Contains("at least one token"));
  CHECK_THROWS_WITH(step({{0, good, Wanted::last}, {0, good, Wanted::last}})(), Catch::Contains("occurs twice"));
  CHECK(model.length(0) == 0);
  for (int i = 0; i < 4; ++i) step({{0, good, Wanted::last}})();
  CHECK_THROWS_WITH(step({{0, good, Wanted::last}})(), Catch::Contains("would have 15 positions"));
  CHECK(model.length(0) == 12);
  CHECK_THROWS_WITH(model.truncate(0, 13), Catch::Contains("cannot be cut"));
}

TEST_CASE("more ranks than query heads are refused with what to do") {
  const program::Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  CHECK_THROWS_WITH(HeadWise::check(g.config, {0, 9}), Catch::Contains("query heads (8), found 9 ranks"));
  CHECK_NOTHROW(Sequence<>::check(g.config, {0, 64}));
}
