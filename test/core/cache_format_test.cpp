// The law of CacheFormat, and the error that each format promises.
#include "catch.hpp"

#include <random>
#include <vector>

#include <tessera/core/cache_format.hpp>

using namespace tessera;

namespace {

template <class F>
std::vector<float> stored(const std::vector<float>& x) {
  const auto n = static_cast<index_t>(x.size());
  std::vector<std::byte> bytes(static_cast<std::size_t>(F::bytes(n)));
  std::vector<float> out(x.size());
  F::encode(x.data(), n, bytes.data());
  F::decode(bytes.data(), n, out.data());
  return out;
}

std::vector<float> random_head(std::mt19937& random, std::size_t n, float magnitude) {
  std::normal_distribution<float> normal(0.0F, magnitude);
  std::vector<float> x(n);
  for (float& value : x) value = normal(random);
  return x;
}

float largest(const std::vector<float>& x) {
  float most = 0;
  for (const float value : x) most = std::max(most, std::abs(value));
  return most;
}

}  // namespace

TEMPLATE_TEST_CASE("what was stored once is stored again without a change", "[cache_format]", F32Heads, Bf16Heads,
                   Int8Heads) {
  std::mt19937 random(1);
  for (const float magnitude : {1e-42F, 1e-37F, 1e-30F, 1e-3F, 1.0F, 3e2F, 1e30F, 5e37F})
    for (const std::size_t n : {1, 7, 32, 64, 128})
      for (int i = 0; i < 200; ++i) {
        const std::vector<float> once = stored<TestType>(random_head(random, n, magnitude));
        REQUIRE(stored<TestType>(once) == once);
      }
}

TEST_CASE("each format's error is what it says", "[cache_format]") {
  std::mt19937 random(2);
  for (const float magnitude : {1e-30F, 1.0F, 1e30F})
    for (int i = 0; i < 1000; ++i) {
      const std::vector<float> x = random_head(random, 64, magnitude);
      const std::vector<float> bf16 = stored<Bf16Heads>(x), int8 = stored<Int8Heads>(x);
      CHECK(stored<F32Heads>(x) == x);
      const float most = largest(x);
      for (std::size_t d = 0; d < x.size(); ++d) {
        REQUIRE(std::abs(bf16[d] - x[d]) <= std::abs(x[d]) * 0x1p-8F);
        REQUIRE(std::abs(int8[d] - x[d]) <= most / 253);
      }
    }
}

TEST_CASE("integers reach from -127 to 127 and round to the nearest", "[cache_format]") {
  std::vector<float> x;
  for (int q = -127; q <= 127; ++q) x.push_back(0.25F * static_cast<float>(q));
  CHECK(stored<Int8Heads>(x) == x);
  CHECK(stored<Int8Heads>({127, 2.5F, 3.5F, -2.5F, 2.4F, -126.6F}) == std::vector<float>{127, 2, 4, -2, 2, -127});
}

TEMPLATE_TEST_CASE("zeros stay zeros, and NaN does not become a number", "[cache_format]", F32Heads, Bf16Heads,
                   Int8Heads) {
  CHECK(stored<TestType>({0, 0, 0}) == std::vector<float>{0, 0, 0});
  for (const std::vector<float>& x : {std::vector<float>{1, NAN, 2}, {NAN, 0, 0}, {0, 3, -NAN}}) {
    const std::vector<float> found = stored<TestType>(x);
    for (std::size_t d = 0; d < x.size(); ++d)
      if (std::isnan(x[d])) CHECK(std::isnan(found[d]));
  }
}

TEST_CASE("a head of 8 bits that holds NaN or infinity is NaN, and one of tiny numbers is zero", "[cache_format]") {
  for (const float value : {NAN, INFINITY, -INFINITY})
    for (const float found : stored<Int8Heads>({1, value, 2})) CHECK(std::isnan(found));
  CHECK(stored<Int8Heads>({1e-36F, -1e-40F}) == std::vector<float>{0, 0});
}

TEST_CASE("formats have names", "[cache_format]") {
  for (const CacheType type : {CacheType::f32, CacheType::bf16, CacheType::int8})
    CHECK(cache_type_named(name_of(type)) == type);
  CHECK_THROWS_WITH(cache_type_named("int4"), "KV cache: expected f32, bf16 or int8, found \"int4\"");
  CHECK(bytes_of_head(CacheType::f32, 128) == 512);
  CHECK(bytes_of_head(CacheType::bf16, 128) == 256);
  CHECK(bytes_of_head(CacheType::int8, 128) == 130);
}
