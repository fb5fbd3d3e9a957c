// The laws of SoftmaxPolicy and MergeableSoftmax, over every policy and backend.
#include "catch.hpp"
#include "policies/random_attention.hpp"

#include <cstring>

#include <tessera/parallel/team.hpp>
#include <tessera/runtime/instances.hpp>

using namespace tessera;
using namespace tessera::test;

namespace {

template <class S, class B>
struct Combination {
  using Softmax = S;
  using Backend = B;
};

template <class First, class... Combinations>
struct Rest {
  using type = std::tuple<Combinations...>;
};

/// Every softmax that is shipped, with a scalar and a vector backend.
#define TESSERA_ON_BACKENDS(softmax) , Combination<softmax, ScalarBackend>, Combination<softmax, XsimdBackend<>>
using EverySoftmax = Rest<void TESSERA_EACH_SOFTMAX(TESSERA_ON_BACKENDS)>::type;

template <class C>
std::vector<float> attend(const RandomAttention& given, int threads) {
  std::vector<float> out(static_cast<std::size_t>(given.rows() * given.width()), 7.0F);
  const Activations view(out.data(), given.rows(), given.width());
  const AttentionProblem problem = given.problem();
  Team(threads).run([&](Worker& w) { C::Softmax::template attend<typename C::Backend>(w, problem, view); });
  return out;
}

/// Largest difference over rows of tasks; rows of no task must still hold what `attend` put there.
double largest_error(const RandomAttention& given, const std::vector<float>& out, const std::vector<double>& expected) {
  double error = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (std::isnan(expected[i])) {
      if (out[i] != 7.0F) return std::numeric_limits<double>::infinity();
      continue;
    }
    const double difference = std::abs(static_cast<double>(out[i]) - expected[i]);
    if (!(difference <= error)) error = std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
  }
  static_cast<void>(given);
  return error;
}

/// The scores' error is amplified by exp, the values are of order 1: a few hundred roundings at most.
constexpr double tolerance = 2e-5;
/// Scores of 1e4 carry an absolute rounding error of about 1e-3 each, which exp turns into a relative one.
constexpr double tolerance_of_large_scores = 2e-3;

std::vector<HeadLayout> layouts() {
  return {
      {4, 16, 2, 0}, {1, 1, 1, 0},   {3, 33, 1, 0}, {5, 24, 3, 1},  // the cut leaves 2 heads of the first group
      {7, 64, 4, 3}, {2, 128, 2, 1}, {6, 17, 6, 0}, {9, 40, 8, 5},
  };
}

std::vector<std::vector<std::vector<index_t>>> shapes() {
  return {
      {causal(0, 1)},
      {causal(0, 5)},
      {{0, 0, 1, 1, 2}},  // a stripe: some rows see none
      {causal(62, 4)},    // around a tile of 64
      {causal(0, 70)},
      {causal(95, 3), causal(0, 2), causal(190, 1)},
      {causal(0, 33), {}, {0, 0}, causal(17, 40), {300}},
      {{3, 3, 3, 50, 50, 129, 129, 260}},
      {{127}, {128}, {129}, {1}},
      {{1537}, {4001}},  // long contexts, which several workers share
  };
}

/// Attention of states that have seen the keys in parts, merged afterwards or carried on from part to part.
template <class Backend>
void hold_parts(const RandomAttention& whole, index_t parts, double allowed) {
  const HeadLayout& layout = whole.layout();
  const auto expected = whole.reference();
  std::vector<float> merged(expected.size(), 7.0F);
  std::vector<float> continued(expected.size(), 7.0F);
  const auto problem = whole.problem();
  std::vector<StatesBuffer> buffers(static_cast<std::size_t>(parts), StatesBuffer(whole.rows(), layout));
  StatesBuffer running(whole.rows(), layout);
  std::vector<SoftmaxStates> states;
  for (StatesBuffer& b : buffers) states.push_back(b.view());
  Team(3).run([&](Worker& w) {
    reset<Backend>(w, running.view());
    for (index_t p = 0; p < parts; ++p) {
      // Part p of each task holds the slots [cut(p), cut(p + 1)).
      std::vector<std::vector<index_t>> visible;
      std::vector<AttentionTask> tasks(problem.tasks.begin(), problem.tasks.end());
      for (AttentionTask& task : tasks) {
        const index_t slots = task.rows == 0 ? 0 : task.visible[task.rows - 1];
        const Range part = partition(slots, parts, p);
        std::vector<index_t> seen;
        for (index_t i = 0; i < task.rows; ++i) seen.push_back(intersect({0, task.visible[i]}, part).size());
        visible.push_back(std::move(seen));
        task.cache.keys += part.begin * task.cache.slot_stride;
        task.cache.values += part.begin * task.cache.slot_stride;
      }
      for (std::size_t t = 0; t < tasks.size(); ++t) tasks[t].visible = visible[t].data();
      AttentionProblem piece = problem;
      piece.tasks = tasks;
      reset<Backend>(w, states[static_cast<std::size_t>(p)]);
      OnlineSoftmax::attend_more<Backend>(w, piece, states[static_cast<std::size_t>(p)]);
      OnlineSoftmax::attend_more<Backend>(w, piece, running.view());
    }
    const Range rows{1, whole.rows()};  // row 0 belongs to no task
    std::vector<SoftmaxStates> of_tasks;
    for (const SoftmaxStates& s : states)
      of_tasks.push_back({s.maximum.row_range(rows), s.sum.row_range(rows), s.output.row_range(rows)});
    const Activations out(merged.data(), whole.rows(), whole.width());
    merge_normalized<Backend>(w, of_tasks, out.row_range(rows));
    const SoftmaxStates all = running.view();
    const Activations other(continued.data(), whole.rows(), whole.width());
    normalize<Backend>(w, {all.maximum.row_range(rows), all.sum.row_range(rows), all.output.row_range(rows)},
                       other.row_range(rows));
  });
  CHECK(largest_error(whole, merged, expected) < allowed);
  CHECK(largest_error(whole, continued, expected) < allowed);
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("attention equals the double precision reference", "[softmax]", EverySoftmax) {
  unsigned seed = 1;
  for (const HeadLayout& layout : layouts())
    for (const auto& shape : shapes()) {
      const RandomAttention given(layout, shape, seed++);
      const auto expected = given.reference();
      for (const int threads : {1, 2, 3, 5}) {
        CAPTURE(layout.heads, layout.head_dim, layout.group, layout.head_offset, seed, threads);
        CHECK(largest_error(given, attend<TestType>(given, threads), expected) < tolerance);
      }
    }
}

TEMPLATE_LIST_TEST_CASE("attention to what a cache has rounded equals the reference on the same numbers", "[softmax]",
                        EverySoftmax) {
  unsigned seed = 1000;
  for (const CacheType type : {CacheType::bf16, CacheType::int8})
    for (const HeadLayout& layout : {HeadLayout{5, 33, 3, 1}, {2, 128, 2, 1}})
      for (const auto& shape : shapes()) {
        const RandomAttention given(layout, shape, seed++, 1, type);
        CAPTURE(name_of(type), layout.heads, layout.head_dim, seed);
        const auto expected = given.reference();
        CHECK(largest_error(given, attend<TestType>(given, 3), expected) < tolerance);
      }
}

TEMPLATE_LIST_TEST_CASE("scores as large as 1e4 neither overflow nor lose the maximum", "[softmax]", EverySoftmax) {
  for (const CacheType type : {CacheType::f32, CacheType::bf16, CacheType::int8}) {
    CAPTURE(name_of(type));
    const RandomAttention given({4, 32, 2, 0}, {causal(0, 40), {150}, {3}}, 5, 3e3F, type);
    const auto expected = given.reference();
    CHECK(largest_error(given, attend<TestType>(given, 2), expected) < tolerance_of_large_scores);
  }
  // Of either sign: alone, beside each other, and tiles of -1e4 behind one of 1e4 or before it.
  for (const index_t turn : {1, 64, 150}) {
    RandomAttention given({4, 32, 2, 0}, {{1, 2, 150, 300}}, 6);
    for (index_t h = 0; h < 2; ++h)
      for (index_t s = 0; s < 300; ++s)
        for (index_t d = 0; d < 32; ++d) given.key(0, h, s)[d] = s / turn % 2 == 0 ? 1.0F : -1.0F;
    for (index_t row = 1; row < given.rows(); ++row)
      for (index_t c = 0; c < given.width(); ++c) given.query(row)[c] = c / 64 == 0 ? 1800.0F : -1800.0F;
    CAPTURE(turn);
    CHECK(largest_error(given, attend<TestType>(given, 2), given.reference()) < tolerance_of_large_scores);
  }
}

TEMPLATE_LIST_TEST_CASE("keys and values with outliers are attended to as the reference does", "[softmax][outliers]",
                        EverySoftmax) {
  unsigned seed = 2000;
  for (const CacheType type : {CacheType::f32, CacheType::bf16, CacheType::int8})
    for (const HeadLayout& layout : {HeadLayout{5, 33, 3, 1}, {2, 128, 2, 1}, {4, 16, 2, 0}})
      for (const auto& shape : shapes()) {
        const RandomAttention given(layout, shape, seed++, 1, type, 100);
        CAPTURE(name_of(type), layout.heads, layout.head_dim, seed);
        // Values are a hundred times as large, and so are scores, whose error exp amplifies.
        CHECK(largest_error(given, attend<TestType>(given, 3), given.reference()) < 250 * tolerance);
      }
}

TEMPLATE_LIST_TEST_CASE("a tile that a row does not see at all leaves the row as it is", "[softmax]", EverySoftmax) {
  constexpr index_t sees_all = 700;
  for (const index_t seen : {0, 1, 63, 64, 65, 128, 300}) {
    // All rows are of one block: what some see others do not, from a place within a tile or from its edge on.
    RandomAttention given({4, 24, 2, 0}, {{0, 0, seen, seen, seen, sees_all}, {0, 0, 0}}, 8);
    const auto expected = given.reference();
    for (const float unseen : {poison, std::numeric_limits<float>::infinity(), 1e30F}) {
      for (index_t h = 0; h < 2; ++h)
        for (index_t s = seen; s < sees_all; ++s)
          for (index_t d = 0; d < 24; ++d) given.key(0, h, s)[d] = given.value(0, h, s)[d] = unseen;
      for (const int threads : {1, 3}) {
        const auto out = attend<TestType>(given, threads);
        double error = 0;
        for (index_t row = 1; row < given.rows(); ++row) {
          if (row == 6) continue;  // the one that sees all
          for (index_t c = row * given.width(); c < (row + 1) * given.width(); ++c) {
            const double difference =
                std::abs(double{out[static_cast<std::size_t>(c)]} - expected[static_cast<std::size_t>(c)]);
            error = std::isnan(difference) ? INFINITY : std::max(error, difference);
          }
        }
        CAPTURE(seen, unseen, threads);
        CHECK(error < tolerance);
      }
    }
  }
}

TEMPLATE_LIST_TEST_CASE("equal inputs give equal bits", "[softmax]", EverySoftmax) {
  const RandomAttention given({6, 48, 3, 0}, {causal(30, 40), {700}, causal(0, 9)}, 6);
  for (const int threads : {1, 2, 4}) {
    const auto first = attend<TestType>(given, threads);
    for (int again = 0; again < 3; ++again) {
      const auto next = attend<TestType>(given, threads);
      CHECK(std::memcmp(first.data(), next.data(), first.size() * sizeof(float)) == 0);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("a row does not depend on keys and values that only later rows see", "[softmax]",
                        EverySoftmax) {
  const HeadLayout layout{4, 24, 2, 0};
  for (const index_t rows : {3, 20, 90}) {
    RandomAttention given(layout, {causal(5, rows)}, 7);
    const auto whole = attend<TestType>(given, 2);
    const index_t poisoned_slot = 5 + rows / 2;
    for (index_t h = 0; h < layout.kv_heads(); ++h)
      for (index_t s = poisoned_slot; s < 5 + rows; ++s) {
        given.key(0, h, s)[3] = poison;
        given.value(0, h, s)[5] = poison;
      }
    const auto poisoned = attend<TestType>(given, 2);
    const auto problem = given.problem();
    for (index_t i = 0; i < rows; ++i) {
      const auto row = static_cast<std::size_t>((problem.tasks[0].row_begin + i) * given.width());
      const bool sees = problem.tasks[0].visible[i] > poisoned_slot;
      for (std::size_t c = row; c < row + static_cast<std::size_t>(given.width()); ++c) {
        CAPTURE(rows, i, c - row);
        if (sees) {
          CHECK(std::isnan(poisoned[c]));
        } else {
          CHECK(poisoned[c] == Approx(whole[c]).margin(1e-6));
        }
      }
    }
  }
}

TEMPLATE_LIST_TEST_CASE("a rank without heads, without tasks or without rows writes nothing", "[softmax]",
                        EverySoftmax) {
  const RandomAttention no_heads({0, 16, 2, 0}, {causal(0, 3)}, 8);
  CHECK(attend<TestType>(no_heads, 2).empty());
  const RandomAttention no_tasks({2, 16, 2, 0}, {}, 9);
  for (const float x : attend<TestType>(no_tasks, 2)) CHECK(x == 7.0F);
  const RandomAttention no_rows({2, 16, 2, 0}, {{}, {}}, 10);
  for (const float x : attend<TestType>(no_rows, 2)) CHECK(x == 7.0F);
}

TEMPLATE_TEST_CASE("states of keys in any number of parts merge to attention over all of them", "[softmax]",
                   ScalarBackend, XsimdBackend<>) {
  unsigned seed = 100;
  for (const HeadLayout& layout : layouts())
    for (const auto& shape : shapes())
      for (const index_t parts : {1, 2, 3, 5}) {
        const RandomAttention whole(layout, shape, seed++, 4.0F);
        CAPTURE(layout.heads, layout.head_dim, seed, parts);
        hold_parts<TestType>(whole, parts, 4 * tolerance);
      }
}

TEMPLATE_TEST_CASE("stripes of one token, and of none, merge to attention over all of them", "[softmax]", ScalarBackend,
                   XsimdBackend<>) {
  unsigned seed = 200;
  for (const HeadLayout& layout : layouts())
    for (const index_t keys : {1, 2, 7, 16})
      for (const index_t parts : {keys, keys + 1, 2 * keys + 3}) {
        const RandomAttention whole(layout, {causal(0, keys), {keys}, {0, keys}}, seed++, 4.0F);
        CAPTURE(layout.heads, layout.head_dim, seed, keys, parts);
        hold_parts<TestType>(whole, parts, 4 * tolerance);
      }
}

TEMPLATE_TEST_CASE("states of scores as large as 1e4 merge, whichever part has the largest", "[softmax]", ScalarBackend,
                   XsimdBackend<>) {
  for (const index_t parts : {2, 3, 9}) {
    RandomAttention whole({4, 32, 2, 0}, {causal(0, 40), {150}, {9}}, 5, 3e3F);
    hold_parts<TestType>(whole, parts, tolerance_of_large_scores);
    // Scores of 1e4 and of -1e4 by turns of nine slots: whole parts weigh nothing, others all.
    for (index_t h = 0; h < 2; ++h)
      for (index_t s = 0; s < 150; ++s)
        for (index_t d = 0; d < 32; ++d) whole.key(1, h, s)[d] = s / 9 % 2 == 0 ? 1.0F : -1.0F;
    for (index_t c = 0; c < whole.width(); ++c) whole.query(41)[c] = c / 64 == 0 ? 1800.0F : -1800.0F;
    hold_parts<TestType>(whole, parts, tolerance_of_large_scores);
  }
}

TEMPLATE_TEST_CASE("scores and weighed values of StandardSoftmax are the two halves of attention", "[softmax]",
                   ScalarBackend, XsimdBackend<>) {
  unsigned seed = 300;
  for (const HeadLayout& layout : layouts())
    for (const auto& shape : shapes()) {
      const RandomAttention given(layout, shape, seed++);
      const auto problem = given.problem();
      index_t most = 0;
      for (const auto& v : shape)
        if (!v.empty()) most = std::max(most, v.back());
      const index_t columns = most + 2;
      std::vector<float> weights(static_cast<std::size_t>(given.rows() * layout.heads * columns), 9.0F);
      const Activations scores(weights.data(), given.rows() * layout.heads, most, columns);
      std::vector<float> out(static_cast<std::size_t>(given.rows() * given.width()), 7.0F);
      Team(2).run([&](Worker& w) { StandardSoftmax::scores<TestType>(w, problem, scores); });
      for (const AttentionTask& task : problem.tasks)
        for (index_t i = 0; i < task.rows * layout.heads; ++i) {
          float* row = scores.row(task.row_begin * layout.heads + i);
          const index_t visible = task.visible[i / layout.heads];
          for (index_t j = visible; j < columns; ++j) CHECK(row[j] == 9.0F);
          if (visible == 0) continue;
          const float m = *std::max_element(row, row + visible);
          float sum = 0;
          for (index_t j = 0; j < visible; ++j) sum += row[j] = std::exp(row[j] - m);
          for (index_t j = 0; j < visible; ++j) row[j] /= sum;
        }
      Team(2).run([&](Worker& w) {
        StandardSoftmax::weigh<TestType>(w, problem, scores, Activations(out.data(), given.rows(), given.width()));
      });
      CAPTURE(layout.heads, layout.head_dim, seed);
      CHECK(largest_error(given, out, given.reference()) < tolerance);
    }
}

TEST_CASE("the state of no keys is neutral, and rows without keys are zeros", "[softmax]") {
  const HeadLayout layout{2, 5, 1, 0};
  StatesBuffer none(3, layout);
  StatesBuffer some(3, layout);
  std::vector<float> out(30, poison);
  std::vector<float> direct(30, poison);
  Team(2).run([&](Worker& w) {
    reset<ScalarBackend>(w, none.view());
    reset<ScalarBackend>(w, some.view());
    w.once([&] {
      for (index_t h = 0; h < 2; ++h) {
        some.view().maximum.row(1)[h] = -3e38F;
        some.view().sum.row(1)[h] = 2;
        std::fill_n(some.view().output.row(1) + h * 5, 5, 6.0F);
      }
    });
    const std::vector<SoftmaxStates> parts{none.view(), some.view(), none.view()};
    merge_normalized<ScalarBackend>(w, parts, {out.data(), 3, 10});
    normalize<ScalarBackend>(w, some.view(), {direct.data(), 3, 10});
  });
  for (std::size_t i = 0; i < 30; ++i) CHECK(out[i] == (i / 10 == 1 ? 3.0F : 0.0F));
  CHECK(out == direct);
}
