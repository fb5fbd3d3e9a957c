// The law of SimdBackend: every operation acts as the scalar one does, lane by lane, and touches no memory beside.

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "backends.hpp"
#include "catch.hpp"
#include "guarded_page.hpp"

using namespace tessera;

namespace {

template <class B>
using Lanes16 = std::array<float, static_cast<std::size_t>(B::width)>;

template <class B>
Lanes16<B> lanes_of(typename B::f32 v) {
  Lanes16<B> lanes;
  B::store(lanes.data(), v);
  return lanes;
}

bool same_value(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<int>(a) == std::bit_cast<int>(b);
}

std::vector<float> awkward_floats() {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> values = {0.0F,
                               -0.0F,
                               1.0F,
                               -1.0F,
                               inf,
                               -inf,
                               std::numeric_limits<float>::quiet_NaN(),
                               1e-45F,
                               -1e-40F,
                               std::numeric_limits<float>::max(),
                               std::numeric_limits<float>::min(),
                               0.5F,
                               3.0F};
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 10);
  while (values.size() % 16 != 0 || values.size() < 160) values.push_back(normal(random));
  return values;
}

/// The distance of two finite floats in units of the last place of the second.
double ulps(float found, double expected) {
  const float nearest = static_cast<float>(expected);
  const double unit = std::abs(nearest) < std::numeric_limits<float>::min()
                          ? 0x1p-149
                          : static_cast<double>(std::nextafter(std::abs(nearest), INFINITY)) - std::abs(nearest);
  return std::abs(found - expected) / unit;
}

template <class B, class T>
void check_every_16_bit_load() {
  std::array<T, 16> in{};
  for (std::uint32_t first = 0; first < 65536; first += static_cast<std::uint32_t>(B::width)) {
    for (index_t i = 0; i < B::width; ++i) in[static_cast<std::size_t>(i)] = T{static_cast<std::uint16_t>(first + i)};
    const auto lanes = lanes_of<B>(B::load(in.data()));
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      if (!same_value(lanes[i], to_float(in[i]))) FAIL("bits " << in[i].bits << " widen to " << lanes[i]);
    }
  }
}

template <class B, class T>
void check_partial_loads(const GuardedPage& page) {
  for (index_t n = 0; n <= B::width; ++n) {
    for (const bool at_end : {true, false}) {
      T* p = at_end ? page.last<T>(static_cast<std::size_t>(n)) : page.first<T>();
      for (index_t i = 0; i < n; ++i) {
        if constexpr (sizeof(T) == 4) {
          p[i] = static_cast<float>(i + 1);
        } else {
          p[i] = T{static_cast<std::uint16_t>(0x3C00 + 7 * i)};
        }
      }
      const auto lanes = lanes_of<B>(B::load_partial(p, n));
      for (index_t i = 0; i < B::width; ++i) {
        const float expected = i < n ? to_float(p[i]) : 0.0F;
        CHECK(same_value(lanes[static_cast<std::size_t>(i)], expected));
      }
    }
  }
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("loads widen every bf16 and f16 exactly", "[simd]", AllBackends) {
  check_every_16_bit_load<TestType, bf16_t>();
  check_every_16_bit_load<TestType, f16_t>();
}

TEMPLATE_LIST_TEST_CASE("loads widen every 8-bit integer exactly", "[simd]", AllBackends) {
  using B = TestType;
  std::vector<std::int8_t> in(static_cast<std::size_t>(B::width) + 1);  // not aligned
  for (int value = -128; value <= 127; ++value) {
    for (std::size_t i = 0; i < in.size(); ++i)
      in[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(value + 37 * static_cast<int>(i)));
    const auto lanes = lanes_of<B>(B::load(in.data() + 1));
    for (std::size_t i = 0; i < lanes.size(); ++i) CHECK(lanes[i] == static_cast<float>(in[i + 1]));
  }
}

TEMPLATE_LIST_TEST_CASE("partial loads fill with zeros and read nothing past their end", "[simd]", AllBackends) {
  const GuardedPage page;
  check_partial_loads<TestType, float>(page);
  check_partial_loads<TestType, bf16_t>(page);
  check_partial_loads<TestType, f16_t>(page);
}

TEMPLATE_LIST_TEST_CASE("partial stores write what was asked for and nothing else", "[simd]", AllBackends) {
  using B = TestType;
  const GuardedPage page;
  const auto values = awkward_floats();
  const auto v = B::load(values.data());
  for (index_t n = 0; n <= B::width; ++n) {
    float* p = page.last<float>(static_cast<std::size_t>(n) + 1);
    for (index_t i = 0; i <= n; ++i) p[i] = -7.0F;
    B::store_partial(p, v, n);
    for (index_t i = 0; i < n; ++i) CHECK(same_value(p[i], values[static_cast<std::size_t>(i)]));
    CHECK(p[n] == -7.0F);
    B::store_partial(page.last<float>(static_cast<std::size_t>(n)), v, n);
  }
}

TEMPLATE_LIST_TEST_CASE("arithmetic is IEEE arithmetic in every lane", "[simd]", AllBackends) {
  using B = TestType;
  const auto values = awkward_floats();
  const auto width = static_cast<std::size_t>(B::width);
  for (std::size_t i = 0; i + width <= values.size(); i += width) {
    for (std::size_t shift = 0; shift < 16; ++shift) {
      std::vector<float> other(width);
      std::vector<float> third(width);
      for (std::size_t j = 0; j < width; ++j) other[j] = values[(i + j + shift) % values.size()];
      for (std::size_t j = 0; j < width; ++j) third[j] = values[(i + 3 * j + shift) % values.size()];
      const auto a = B::load(values.data() + i);
      const auto b = B::load(other.data());
      const auto c = B::load(third.data());
      const auto sum = lanes_of<B>(B::add(a, b));
      const auto difference = lanes_of<B>(B::sub(a, b));
      const auto product = lanes_of<B>(B::mul(a, b));
      const auto quotient = lanes_of<B>(B::div(a, b));
      const auto fused = lanes_of<B>(B::fma(a, b, c));
      const auto largest = lanes_of<B>(B::max(a, b));
      const auto least = lanes_of<B>(B::min(a, b));
      for (std::size_t j = 0; j < width; ++j) {
        const float x = values[i + j];
        const float y = other[j];
        CAPTURE(x, y, third[j]);
        CHECK(same_value(sum[j], x + y));
        CHECK(same_value(difference[j], x - y));
        CHECK(same_value(product[j], x * y));
        CHECK(same_value(quotient[j], x / y));
        volatile float rounded_product = x * y;
        CHECK((same_value(fused[j], std::fma(x, y, third[j])) || same_value(fused[j], rounded_product + third[j])));
        if (std::isnan(x) || std::isnan(y)) {
          CHECK((same_value(largest[j], x) || same_value(largest[j], y)));
          CHECK((same_value(least[j], x) || same_value(least[j], y)));
        } else {
          CHECK(largest[j] == std::max(x, y));
          CHECK(least[j] == std::min(x, y));
        }
      }
    }
  }
}

TEMPLATE_LIST_TEST_CASE("exp is within two units of the last place and sound everywhere", "[simd]", AllBackends) {
  using B = TestType;
  std::vector<float> inputs;
  for (float x = -87.3F; x < 88.7F; x += 0.00371F) inputs.push_back(x);
  for (float x = 88.7F; x <= 88.722839F; x = std::nextafter(x, 100.0F)) inputs.push_back(x);
  for (float x = 1e-45F; x < 1; x *= 3) inputs.insert(inputs.end(), {x, -x});
  while (inputs.size() % 16 != 0) inputs.push_back(0.0F);
  double worst = 0;
  const auto width = static_cast<std::size_t>(B::width);
  for (std::size_t i = 0; i < inputs.size(); i += width) {
    const auto lanes = lanes_of<B>(B::exp(B::load(inputs.data() + i)));
    for (std::size_t j = 0; j < width; ++j) {
      worst = std::max(worst, ulps(lanes[j], std::exp(static_cast<double>(inputs[i + j]))));
    }
  }
  CHECK(worst <= 2.0);
  const auto exp_of_one = [](float x) { return lanes_of<B>(B::exp(B::broadcast(x)))[0]; };
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(exp_of_one(0.0F) == 1.0F);
  CHECK(exp_of_one(-0.0F) == 1.0F);
  CHECK(exp_of_one(inf) == inf);
  CHECK(exp_of_one(88.7229F) == inf);
  CHECK(exp_of_one(std::numeric_limits<float>::max()) == inf);
  CHECK(std::isnan(exp_of_one(std::numeric_limits<float>::quiet_NaN())));
  for (const float x : {-inf, std::numeric_limits<float>::lowest(), -1e10F, -200.0F, -87.4F})
    CHECK(exp_of_one(x) == 0.0F);
}

TEMPLATE_LIST_TEST_CASE("reductions cover every lane", "[simd]", AllBackends) {
  using B = TestType;
  Lanes16<B> lanes{};
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    lanes.fill(-2.0F);
    lanes[i] = 5.0F;
    CHECK(B::reduce_max(B::load(lanes.data())) == 5.0F);
    CHECK(B::reduce_add(B::load(lanes.data())) == 5.0F - 2.0F * static_cast<float>(B::width - 1));
  }
}

TEMPLATE_LIST_TEST_CASE("transpose swaps rows and columns", "[simd]", AllBackends) {
  using B = TestType;
  typename B::f32 square[B::width];
  for (index_t i = 0; i < B::width; ++i) {
    Lanes16<B> row;
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = static_cast<float>(100 * i) + static_cast<float>(j);
    square[i] = B::load(row.data());
  }
  B::transpose(square);
  for (index_t i = 0; i < B::width; ++i) {
    const auto row = lanes_of<B>(square[i]);
    for (std::size_t j = 0; j < row.size(); ++j) CHECK(row[j] == static_cast<float>(100 * j) + static_cast<float>(i));
  }
}
