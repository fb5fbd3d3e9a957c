// Two ways of multiplying 8-bit integers with AVX2 alone, in turn: vpmaddubsw of bytes as they lie in memory
// (simd/byte_dots_avx2.hpp), and vpmaddwd of weights that are widened to 16 bits: into panels that wait in the cache
// for all tokens, or, for one token, as they are read. Compiled for AVX2 without VNNI, whatever the machine has. Run:
// byte_dots_bench [--threads 1]
//
// Names are coordinates: byte_dots/<format>/tokens:<T>/threads:<N>. The shape is that of a product of Qwen3-0.6B. With
// one token the weights come from memory, in turn from many copies. Both ways give the same bits, which is checked.
// Counters are billions of products a second of both, and how many times as long 16 bits take.
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include <tessera/core/weight_format.hpp>
#include <tessera/kernels/quantised_groups.hpp>
#include <tessera/parallel/team.hpp>

#include "measure.hpp"
#include "program/cli.hpp"

namespace {

using namespace tessera;
using B = XsimdBackend<>;
static_assert(!ByteDots<B>::one_instruction && B::width == 8, "compiled for AVX2 without VNNI");

constexpr index_t cols = 1024;
constexpr index_t rows = 3072;
constexpr index_t blocks = cols / weight_block;
constexpr index_t chunk_groups = 4;  ///< of a panel: 128 KiB, which stay in the second level of cache

/// A matrix in groups, as the library has them. `pairs`: its bytes so lie that a register of 16 widened ones holds two
/// columns of eight rows, as in a panel: the order that reading without a panel wants, which the library has not.
template <BlockFormat F>
struct Weights {
  Buffer<std::uint8_t> integers{bytes_of(F::dtype, rows* cols)};
  Buffer<std::uint8_t> pairs{F::dtype == DType::int8_blocks ? rows * cols : 0};
  Buffer<f16_t> scales{rows * blocks * F::planes};

  [[nodiscard]] WeightView view() const {
    return {.data = integers.data(),
            .dtype = F::dtype,
            .rows = rows,
            .cols = cols,
            .stride = cols,
            .scales = scales.data()};
  }
};

/// Integers of a group as a panel of 16 bits: [cols / 2][16 rows][2].
template <BlockFormat F>
void widen(const std::uint8_t* group, std::int16_t* panel) {
  const __m128i by_columns = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  const auto store = [&](__m128i four_rows, index_t column, index_t row) {
    const __m128i ordered = _mm_shuffle_epi8(four_rows, by_columns);
    auto* to = reinterpret_cast<__m128i*>(panel + column * group_rows + 2 * row);
    _mm_storeu_si128(to, _mm_cvtepi8_epi16(ordered));
    _mm_storeu_si128(to + group_rows / 4, _mm_cvtepi8_epi16(_mm_unpackhi_epi64(ordered, ordered)));
  };
  constexpr index_t units = F::bytes / 4;
  for (index_t b = 0; b < blocks; ++b)
    for (index_t u = 0; u < units; ++u)
      for (index_t row = 0; row < group_rows; row += 4) {
        const __m128i four_rows =
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(group + ((b * units + u) * group_rows + row) * 4));
        const index_t column = b * weight_block + 4 * u;
        if constexpr (F::dtype == DType::int8_blocks) {
          store(four_rows, column, row);
        } else {
          const __m128i low = _mm_set1_epi8(15);
          store(_mm_and_si128(four_rows, low), column, row);
          store(_mm_and_si128(_mm_srli_epi16(four_rows, 4), low), column + weight_block / 2, row);
        }
      }
}

/// Activations in 16 bits.
struct Activations {
  std::vector<std::int16_t> wide;
  const QuantisedActivations* bytes;
};

/// sums[t][r] of one group and TOKENS tokens; load(pair, half) is two columns of eight rows in 16 bits.
template <BlockFormat F, int TOKENS, class Load>
[[gnu::always_inline]] inline void multiply_in_16_bits(const Load& load, const f16_t* scales, const Activations& x,
                                                       index_t token, float* sums, index_t stride) {
  B::f32 sum[TOKENS][2];
#pragma GCC unroll 16
  for (int t = 0; t < TOKENS; ++t) sum[t][0] = sum[t][1] = B::zero();
  for (index_t b = 0; b < blocks; ++b) {
    __m256i dots[TOKENS][2];
#pragma GCC unroll 16
    for (int t = 0; t < TOKENS; ++t) dots[t][0] = dots[t][1] = _mm256_setzero_si256();
    const std::int16_t* from = x.wide.data() + token * cols + b * weight_block;
#pragma GCC unroll 2
    for (index_t p = 0; p < weight_block / 2; ++p) {
      const __m256i weights[2] = {load(b * weight_block / 2 + p, 0), load(b * weight_block / 2 + p, 1)};
#pragma GCC unroll 16
      for (int t = 0; t < TOKENS; ++t) {
        std::int32_t two = 0;
        std::memcpy(&two, from + t * cols + 2 * p, sizeof two);
        const __m256i pair = _mm256_set1_epi32(two);
        for (int v = 0; v < 2; ++v) dots[t][v] = _mm256_add_epi32(dots[t][v], _mm256_madd_epi16(weights[v], pair));
      }
    }
#pragma GCC unroll 16
    for (int t = 0; t < TOKENS; ++t) {
      const auto x_scale = B::broadcast(x.bytes->scales[(token + t) * blocks + b]);
      for (int v = 0; v < 2; ++v) {
        const f16_t* of_rows = scales + b * F::planes * group_rows + v * B::width;
        sum[t][v] = B::fma(_mm256_cvtepi32_ps(dots[t][v]), B::mul(B::load(of_rows), x_scale), sum[t][v]);
        if constexpr (F::planes > 1)
          sum[t][v] =
              B::fma(B::load(of_rows + group_rows), B::broadcast(x.bytes->sums[(token + t) * blocks + b]), sum[t][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < TOKENS; ++t)
    for (int v = 0; v < 2; ++v) B::store(sums + (token + t) * stride + v * B::width, sum[t][v]);
}

/// All tokens and some chunks of rows through panels in `panels`.
template <BlockFormat F>
void multiply_panels(const Weights<F>& weights, const Activations& x, Range chunks, std::int16_t* panels, float* sums) {
  const WeightView view = weights.view();
  for (index_t first = chunks.begin * chunk_groups; first < chunks.end * chunk_groups; first += chunk_groups) {
    for (index_t g = 0; g < chunk_groups; ++g) widen<F>(view.group_integers(first + g), panels + g * group_rows * cols);
    for (index_t t = 0; t < x.bytes->rows; t += GroupShape<B>::tokens)
      for (index_t g = 0; g < chunk_groups; ++g) {
        const std::int16_t* panel = panels + g * group_rows * cols;
        multiply_in_16_bits<F, GroupShape<B>::tokens>(
            [&](index_t pair, index_t half) {
              return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel + (pair * 2 + half) * 16));
            },
            view.group_scales(first + g), x, t, sums + (first + g) * group_rows, rows);
      }
  }
}

/// One token and weights in 8 bits, widened as they are read.
void multiply_as_read(const Weights<Int8Blocks>& weights, const Activations& x, Range chunks, float* sums) {
  const WeightView view = weights.view();
  for (index_t g = chunks.begin * chunk_groups; g < chunks.end * chunk_groups; ++g) {
    const std::uint8_t* pairs = weights.pairs.data() + g * group_rows * cols;
    multiply_in_16_bits<Int8Blocks, 1>(
        [&](index_t pair, index_t half) {
          return _mm256_cvtepi8_epi16(
              _mm_loadu_si128(reinterpret_cast<const __m128i*>(pairs + (pair * 2 + half) * 16)));
        },
        view.group_scales(g), x, 0, sums + g * group_rows, rows);
  }
}

template <BlockFormat F>
std::vector<Weights<F>> random_weights(index_t copies) {
  std::minstd_rand random(1);
  std::vector<Weights<F>> all(static_cast<std::size_t>(copies));
  for (Weights<F>& weights : all) {
    for (index_t i = 0; i < weights.integers.size(); ++i) do
        weights.integers[i] = static_cast<std::uint8_t>(random() >> 8);
      while (F::dtype == DType::int8_blocks && weights.integers[i] == 128);
    for (index_t i = 0; i < weights.scales.size(); ++i)
      weights.scales[i] = to_f16(0.001F * static_cast<float>(1 + random() % 9));
    if constexpr (F::dtype == DType::int8_blocks) {
      std::vector<std::int16_t> panel(static_cast<std::size_t>(group_rows * cols));
      for (index_t g = 0; g < rows / group_rows; ++g) {
        widen<F>(weights.view().group_integers(g), panel.data());
        for (index_t i = 0; i < group_rows * cols; ++i)
          weights.pairs[g * group_rows * cols + i] = static_cast<std::uint8_t>(panel[static_cast<std::size_t>(i)]);
      }
    }
  }
  return all;
}

template <BlockFormat F>
void compare(benchmark::State& state, index_t tokens, int threads) {
  Team team(threads);
  std::vector<float> numbers(static_cast<std::size_t>(tokens * cols));
  std::minstd_rand random(2);
  std::normal_distribution<float> normal;
  for (float& x : numbers) x = normal(random);
  QuantisedActivations x;
  team.run([&](Worker& worker) {
    const auto rounded = quantise_activations<B>(worker, {numbers.data(), tokens, cols, cols});
    if (worker.index() == 0) x = rounded;
  });
  const Activations wide{{x.integers, x.integers + tokens * cols}, &x};

  const index_t copies = tokens > 1 ? 1 : ceil_div(4 * bench::last_cache_bytes(), rows * cols);
  const auto weights = random_weights<F>(copies);
  constexpr index_t panel_integers = chunk_groups * group_rows * cols;
  std::vector<std::int16_t> panels(static_cast<std::size_t>(threads * panel_integers));
  std::vector<float> of_bytes(static_cast<std::size_t>(tokens * rows)), of_16_bits(of_bytes.size());
  const auto in_bytes = [&](const Weights<F>& w, Range chunks, int) {
    const WeightView view = w.view();
    constexpr index_t chunk = chunk_groups * group_rows;
    for (index_t c = chunks.begin; c < chunks.end; ++c)
      multiply_groups<B, F>(x, view.row_range({c * chunk, (c + 1) * chunk}), of_bytes.data() + c * chunk, rows);
  };
  const auto in_16_bits = [&](const Weights<F>& w, Range chunks, int worker) {
    if constexpr (F::dtype == DType::int8_blocks)
      if (tokens == 1) return multiply_as_read(w, wide, chunks, of_16_bits.data());
    multiply_panels<F>(w, wide, chunks, panels.data() + worker * panel_integers, of_16_bits.data());
  };
  const auto seconds_of = [&](const auto& multiply, std::span<const Weights<F>> all) {
    return program::shortest(1, [&] {
      team.run([&](Worker& worker) {
        const Range chunks = worker.share(rows / group_rows / chunk_groups);
        for (const Weights<F>& w : all) multiply(w, chunks, worker.index());
      });
    });
  };
  static_cast<void>(seconds_of(in_bytes, std::span(weights).first(1)) +
                    seconds_of(in_16_bits, std::span(weights).first(1)));
  if (of_bytes != of_16_bits) return state.SkipWithError("the two ways differ");

  std::vector<double> bytes, bits, ratios;
  bench::median_seconds(state, [&] {
    bytes.push_back(seconds_of(in_bytes, weights)), bits.push_back(seconds_of(in_16_bits, weights));
    ratios.push_back(bits.back() / bytes.back());
    return bytes.back() + bits.back();
  });
  const double products = 1e-9 * static_cast<double>(copies * tokens * rows * cols);
  state.counters["maddubs_G/s"] = products / bench::median(bytes);
  state.counters["16_bits_G/s"] = products / bench::median(bits);
  state.counters["16_bits_over_maddubs"] = bench::median(ratios);
}

template <BlockFormat F>
void add(index_t tokens, int threads) {
  benchmark::RegisterBenchmark(concat("byte_dots/", F::name, "/tokens:", tokens, "/threads:", threads).c_str(),
                               [=](benchmark::State& state) { compare<F>(state, tokens, threads); })
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, "byte_dots_bench: vpmaddubsw against vpmaddwd of widened weights, in turn",
                    [](const bench::CommonOptions& options, std::span<const float>) {
                      for (const int threads : options.threads) {
                        add<Int8Blocks>(1, threads);
                        for (const index_t tokens : {16, 128, 512}) {
                          add<Int8Blocks>(tokens, threads);
                          add<Int4Blocks>(tokens, threads);
                        }
                      }
                    });
}
