// Attention on a caller's tensors, under every kind of sharding, against scalar double.
#include "catch.hpp"

#include <cmath>
#include <vector>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/nn/distributed_attention.hpp>
#include <tessera/policies/hybrid.hpp>
#include <tessera/policies/ulysses.hpp>

using namespace tessera;

namespace {

constexpr AttentionShape shape{4, 2, 6};
constexpr index_t positions = 40;

/// Elements of a tensor that nobody stores whole: kind (q, k, v), sequence, position, head, place.
float element(int kind, index_t sequence, index_t position, index_t head, index_t d) {
  return std::sin(static_cast<float>(1 + kind) * 1.7F + static_cast<float>(37 * sequence + 11 * position) +
                  static_cast<float>(3 * head) + 0.6F * static_cast<float>(d * (kind + 1)));
}

/// A key (kind 1) or value (2) as the cache holds it.
std::vector<float> stored(int kind, index_t sequence, index_t position, index_t kv_head, CacheType type) {
  std::vector<float> x;
  for (index_t d = 0; d < shape.head_dim; ++d) x.push_back(element(kind, sequence, position, kv_head, d));
  std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_of_head(type, shape.head_dim)));
  with_cache_format(type, [&]<class F>(F) {
    F::encode(x.data(), shape.head_dim, bytes.data());
    F::decode(bytes.data(), shape.head_dim, x.data());
  });
  return x;
}

double expected(CacheType type, index_t sequence, index_t position, index_t head, index_t d) {
  const index_t kv_head = head / (shape.heads / shape.kv_heads);
  double sum = 0, weighted = 0;
  for (index_t p = 0; p <= position; ++p) {
    double score = 0;
    const std::vector<float> key = stored(1, sequence, p, kv_head, type);
    for (index_t i = 0; i < shape.head_dim; ++i)
      score += static_cast<double>(element(0, sequence, position, head, i)) * key[static_cast<std::size_t>(i)];
    const double weight = std::exp(score / std::sqrt(static_cast<double>(shape.head_dim)));
    sum += weight;
    weighted += weight * stored(2, sequence, p, kv_head, type)[static_cast<std::size_t>(d)];
  }
  return weighted / sum;
}

/// What std::mdspan offers, with a layout of its own: head_dim outermost, then heads, then rows with a gap.
struct OwnTensor {
  std::vector<float> values;
  std::size_t extents[3];

  OwnTensor(index_t rows, index_t heads)
      : values(static_cast<std::size_t>((2 * rows) * heads * shape.head_dim), NAN),
        extents{static_cast<std::size_t>(rows), static_cast<std::size_t>(heads),
                static_cast<std::size_t>(shape.head_dim)} {}
  static constexpr std::size_t rank() { return 3; }
  [[nodiscard]] float* data_handle() const { return const_cast<float*>(values.data()); }
  [[nodiscard]] std::size_t extent(std::size_t d) const { return extents[d]; }
  [[nodiscard]] std::size_t stride(std::size_t d) const {
    const std::size_t strides[] = {2, 2 * extents[0], 2 * extents[0] * extents[1]};
    return strides[d];
  }
  float& at(index_t row, index_t head, index_t d) {
    return values[static_cast<std::size_t>(row) * stride(0) + static_cast<std::size_t>(head) * stride(1) +
                  static_cast<std::size_t>(d) * stride(2)];
  }
};

/// Runs steps of two sequences and returns the largest error of this rank's results.
template <class Attention>
double largest_error(Attention& attention, CacheType type) {
  double worst = 0;
  const std::vector<std::vector<NewTokens>> steps = {{{0, 17}},        {{1, 3}, {0, 1}}, {{0, 1}, {1, 1}},
                                                     {{1, 9}, {0, 2}}, {{1, 1}},         {{0, 1}, {1, 1}}};
  for (const auto& tokens : steps) {
    const Plan plan = attention.plan(tokens);
    std::vector<std::pair<index_t, index_t>> place;  // sequence and position of every row of the step
    for (const NewTokens& more : tokens)
      for (index_t i = 0; i < more.count; ++i) place.emplace_back(more.sequence, attention.length(more.sequence) + i);
    const index_t rows = plan.computed.size();
    const Range q_heads = plan.slice.q_heads, kv_heads = plan.slice.kv_heads;
    OwnTensor q(rows, q_heads.size()), k(rows, kv_heads.size()), v(k), out(q);
    const auto each = [&](OwnTensor& tensor, Range heads, auto&& f) {
      for (index_t i = 0; i < rows; ++i)
        for (index_t h = 0; h < heads.size(); ++h)
          for (index_t d = 0; d < shape.head_dim; ++d) {
            const auto [sequence, position] = place[static_cast<std::size_t>(plan.computed[i])];
            f(tensor.at(i, h, d), sequence, position, heads.begin + h, d);
          }
    };
    const auto fill = [&](int kind, OwnTensor& tensor, Range heads) {
      each(tensor, heads, [&](float& x, auto... where) { x = element(kind, where...); });
    };
    fill(0, q, q_heads), fill(1, k, kv_heads), fill(2, v, kv_heads);
    attention.step(tokens, q, k, v, out);
    each(out, q_heads, [&](float x, auto... where) {
      const double error = std::abs(static_cast<double>(x) - expected(type, where...));
      if (!(error <= worst)) worst = std::isnan(error) ? INFINITY : error;
    });
  }
  return worst;
}

const AttentionOptions options{.limits = {.max_tokens = 20, .max_positions = positions, .max_sequences = 2}};

}  // namespace

TEMPLATE_TEST_CASE("attention on a caller's tensors equals scalar double under every sharding", "[nn]", HeadWise,
                   Sequence<>, Sequence<RingKv>, Ulysses, SequenceOfHeadWise) {
  for (const int ranks : {1, 2, 3, 4}) {
    AttentionOptions with_inner = options;
    if (std::is_same_v<TestType, SequenceOfHeadWise>) with_inner.inner = ranks % 2 == 0 ? 2 : 1;
    for (const auto& [threads, type] : {std::pair(1, CacheType::f32),
                                        {2, CacheType::f32},
                                        {2, CacheType::bf16},
                                        {1, CacheType::int8},
                                        {2, CacheType::int8}}) {
      with_inner.threads = threads, with_inner.limits.cache = type;
      const auto errors = InProcess::run(ranks, [&](Communicator comm) {
        DistributedAttention<TestType, OnlineSoftmax, ScalarBackend> first(comm, shape, with_inner);
        DistributedAttention<TestType, OnlineSoftmax, ScalarBackend> attention = std::move(first);
        return largest_error(attention, with_inner.limits.cache);  // Clang 14 captures no name of a structured binding
      });
      CAPTURE(ranks, threads, name_of(type));
      for (const double error : errors)
        CHECK(error < 1e-5);  // bits of a format are no source of error: all round alike
    }
  }
}

TEST_CASE("attention takes back positions, and refuses what does not fit without a change", "[nn]") {
  DistributedAttention<Sequence<>, OnlineSoftmax, ScalarBackend> attention(Loopback{}, shape, options);
  std::vector<float> q(static_cast<std::size_t>(5 * shape.heads * shape.head_dim), 1), out(q);
  const TensorView<float, 3> q_view(q.data(), {5, shape.heads, shape.head_dim});
  const TensorView<float, 3> kv_view(q.data(), {5, shape.kv_heads, shape.head_dim});
  const TensorView<float, 3> out_view(out.data(), {5, shape.heads, shape.head_dim});
  const std::vector<NewTokens> five = {{1, 5}};
  attention.step(five, q_view, kv_view, kv_view, out_view);
  CHECK(attention.length(1) == 5);
  CHECK_THROWS_WITH(attention.step(five, q_view, q_view, kv_view, out_view), "k: expected [5, 2, 6], found [5, 4, 6]");
  CHECK_THROWS_WITH(attention.plan(std::vector<NewTokens>{{0, 21}}),
                    "attention: planned for 20 tokens at a time, found 21");
  CHECK_THROWS_WITH(attention.plan(std::vector<NewTokens>{{1, 36}}),
                    "attention: sequence 1 would have 41 positions; there is room for 40");
  CHECK_THROWS_WITH(attention.plan(std::vector<NewTokens>{{0, 1}, {0, 1}}), "attention: sequence 0 occurs twice");
  CHECK_THROWS_AS(attention.truncate(1, 6), Error);
  CHECK(attention.length(1) == 5);
  attention.truncate(1, 2);
  CHECK(attention.length(1) == 2);
  CHECK_THROWS_AS((DistributedAttention<HeadWise, OnlineSoftmax, ScalarBackend>(Loopback{}, {3, 2, 4}, options)),
                  Error);
}
