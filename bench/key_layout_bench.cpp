// Two layouts of cached keys, in turn: a row for each key, as the cache has them, and blocks of a register tile of keys
// with the head's dimension outside ([dimension][keys]), which need neither packed queries nor sums across a register.
// Run: key_layout_bench [--threads 1,2] [--benchmark_filter=queries:2/]
//
// Names are coordinates: key_layout/<format>/queries:<of a KV head>/context:<C>. Scores alone, of the shape of
// Qwen3-0.6B (8 KV heads of 128). Decode (few queries) finds cold keys; prefill (a panel of queries, packed in the
// time) finds one head's keys in the cache. Counters are GB/s or GFLOP/s of both, and how many times as long rows take.
#include <array>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include <tessera/kernels/attention_rows.hpp>

#include "measure.hpp"
#include "program/cli.hpp"

namespace {

using namespace tessera;
using B = XsimdBackend<>;

constexpr index_t head_dim = 128;
constexpr index_t kv_heads = 8;
constexpr index_t vectors = 2;                      ///< registers of keys in a block
constexpr index_t block_keys = vectors * B::width;  ///< which divides every context below
constexpr index_t tile_keys = 480;                  ///< of a pass of prefill: whole blocks, and whole tiles of 96

/// Bytes of a block: its numbers, and a scale for each key where the format has one.
template <class F>
constexpr index_t block_bytes = block_keys*(head_dim* static_cast<index_t>(sizeof(typename F::element)) +
                                            (F::type == CacheType::int8 ? sizeof(float) : 0));

/// Writes rows of keys of format F as blocks: the same numbers in another order.
template <class F>
void write_blocks(const std::byte* rows, index_t count, std::byte* blocks) {
  using T = typename F::element;
  for (index_t j = 0; j < count; ++j) {
    std::byte* block = blocks + j / block_keys * block_bytes<F>;
    const std::byte* row = rows + j * F::bytes(head_dim);
    for (index_t d = 0; d < head_dim; ++d)
      std::memcpy(block + (d * block_keys + j % block_keys) * static_cast<index_t>(sizeof(T)),
                  row + F::scale_bytes + d * static_cast<index_t>(sizeof(T)), sizeof(T));
    if constexpr (F::type == CacheType::int8) {
      const float scale = F::scale_of(row);
      std::memcpy(block + head_dim * block_keys + j % block_keys * 4, &scale, sizeof scale);
    }
  }
}

/// scores[r][j] = queries[r] . keys[j] for ROWS queries [ROWS][head_dim] and the keys of one block.
template <class F, index_t ROWS>
void score_one_block(const float* queries, const std::byte* block, float* scores, index_t score_stride) {
  using T = typename F::element;
  constexpr index_t W = B::width;
  const T* keys = reinterpret_cast<const T*>(block);
  B::f32 sums[ROWS][vectors];
  detail::unrolled<ROWS>([&](auto r) { detail::unrolled<vectors>([&](auto v) { sums[r][v] = B::zero(); }); });
  for (index_t d = 0; d < head_dim; ++d) {
    B::f32 k[vectors];
    __builtin_prefetch(keys + (d + 32) * block_keys);
    if constexpr (sizeof(T) == 4) __builtin_prefetch(keys + (d + 32) * block_keys + W);
    detail::unrolled<vectors>([&](auto v) { k[v] = B::load(keys + d * block_keys + v * W); });
    detail::unrolled<ROWS>([&](auto r) {
      const auto q = B::broadcast(queries[r * head_dim + d]);
      detail::unrolled<vectors>([&](auto v) { sums[r][v] = B::fma(q, k[v], sums[r][v]); });
    });
  }
  detail::unrolled<ROWS>([&](auto r) {
    detail::unrolled<vectors>([&](auto v) {
      auto sum = sums[r][v];
      if constexpr (F::type == CacheType::int8)
        sum = B::mul(sum, B::load(reinterpret_cast<const float*>(block + head_dim * block_keys) + v * W));
      B::store(scores + r * score_stride + v * W, sum);
    });
  });
}

template <class F, index_t ROWS>
void score_blocks(const float* queries, index_t rows, const std::byte* blocks, index_t count, float* scores) {
  for (index_t j = 0; j < count; j += block_keys)
    for (index_t r = 0; r < rows; r += ROWS)
      score_one_block<F, ROWS>(queries + r * head_dim, blocks + j / block_keys * block_bytes<F>, scores + r * count + j,
                               count);
}

Buffer<float> random_floats(index_t count) {
  Buffer<float> all(count);
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  for (index_t i = 0; i < count; ++i) all[i] = uniform(random);
  return all;
}

/// Whether both layouts give the scores that sums in double give, up to the rounding of f32.
bool right(benchmark::State& state, const float* queries, const std::vector<float>& keys, index_t rows, index_t count,
           const float* by_rows, const float* by_blocks) {
  double worst = 0;
  for (index_t r = 0; r < rows; ++r)
    for (index_t j = 0; j < count; ++j) {
      double sum = 0;
      for (index_t d = 0; d < head_dim; ++d)
        sum += static_cast<double>(queries[r * head_dim + d]) *
               static_cast<double>(keys[static_cast<std::size_t>(j * head_dim + d)]);
      worst = std::max({worst, std::abs(sum - by_rows[r * count + j]), std::abs(sum - by_blocks[r * count + j])});
    }
  if (worst > 1e-4) state.SkipWithError("differs from sums in double");
  return worst <= 1e-4;
}

/// Scores of ROWS queries for each KV head against `context` keys that come from memory.
template <class F, index_t ROWS>
void decode(benchmark::State& state, index_t context, int threads) {
  Team team(threads);
  const index_t head_rows = context * F::bytes(head_dim), head_blocks = context / block_keys * block_bytes<F>;
  const index_t copies = std::max<index_t>(2, 4 * bench::last_cache_bytes() / (kv_heads * head_rows));
  const index_t heads = copies * kv_heads;
  const Buffer<float> queries = random_floats(ROWS * head_dim);
  const Buffer<float> floats = random_floats(context * head_dim);
  Buffer<std::byte> rows(heads * head_rows), blocks(heads * head_blocks);
  for (index_t j = 0; j < context; ++j)
    F::encode(floats.data() + j * head_dim, head_dim, rows.data() + j * F::bytes(head_dim));
  write_blocks<F>(rows.data(), context, blocks.data());
  team.run([&](Worker& worker) {  // every head has the same keys, in places of its own
    const Range mine = worker.share(heads);
    for (index_t h = std::max<index_t>(1, mine.begin); h < mine.end; ++h) {
      std::memcpy(rows.data() + h * head_rows, rows.data(), static_cast<std::size_t>(head_rows));
      std::memcpy(blocks.data() + h * head_blocks, blocks.data(), static_cast<std::size_t>(head_blocks));
    }
  });
  const index_t scratch = ROWS * context;
  Buffer<float> scores(2 * threads * scratch);
  const auto scores_of = [&](int worker, bool of_rows) {
    return scores.data() + (2 * worker + (of_rows ? 0 : 1)) * scratch;
  };
  const auto score = [&](bool of_rows) {
    return program::shortest(1, [&] {
      team.run([&](Worker& worker) {
        const Range mine = worker.share(heads);
        float* out = scores_of(worker.index(), of_rows);
        for (index_t h = mine.begin; h < mine.end; ++h) {
          if (of_rows)
            detail::dot_cached<B>(queries.data(), ROWS, head_dim,
                                  {rows.data() + h * head_rows, F::bytes(head_dim), F::type}, context, out, context);
          else
            score_blocks<F, ROWS>(queries.data(), ROWS, blocks.data() + h * head_blocks, context, out);
        }
      });
    });
  };
  static_cast<void>(score(true) + score(false));
  std::vector<float> stored(static_cast<std::size_t>(context * head_dim));
  for (index_t j = 0; j < context; ++j)
    F::decode(rows.data() + j * F::bytes(head_dim), head_dim, stored.data() + j * head_dim);
  if (!right(state, queries.data(), stored, ROWS, context, scores_of(0, true), scores_of(0, false))) return;
  std::vector<double> by_rows, by_blocks, ratios;
  bench::median_seconds(state, [&] {
    by_rows.push_back(score(true)), by_blocks.push_back(score(false));
    ratios.push_back(by_rows.back() / by_blocks.back());
    return by_rows.back() + by_blocks.back();
  });
  state.counters["rows_GB/s"] = static_cast<double>(heads * head_rows) / bench::median(by_rows) / 1e9;
  state.counters["blocks_GB/s"] = static_cast<double>(heads * head_blocks) / bench::median(by_blocks) / 1e9;
  state.counters["rows_over_blocks"] = bench::median(ratios);
}

/// Scores of a panel of queries against the keys of one pass, one thread: packing the queries counts.
void prefill(benchmark::State& state) {
  constexpr index_t panel = detail::AttentionTile<B>::panel;
  constexpr index_t ROWS = B::registers >= 32 ? 8 : 4;
  const Buffer<float> queries = random_floats(panel * head_dim);
  const Buffer<float> keys = random_floats(tile_keys * head_dim);
  Buffer<float> packed(panel * head_dim), transposed(tile_keys * panel), by_blocks(panel * tile_keys);
  Buffer<std::byte> blocks(tile_keys / block_keys * block_bytes<F32Heads>);
  write_blocks<F32Heads>(reinterpret_cast<const std::byte*>(keys.data()), tile_keys, blocks.data());
  const auto score_rows = [&] {
    detail::pack_queries<B>([&](index_t i) { return queries.data() + i * head_dim; }, panel, head_dim, 1.0F,
                            packed.data());
    detail::score_panel<B, 2>(keys.data(), head_dim, tile_keys, packed.data(), head_dim, transposed.data());
  };
  const auto score_these_blocks = [&] {
    score_blocks<F32Heads, ROWS>(queries.data(), panel, blocks.data(), tile_keys, by_blocks.data());
  };
  score_rows(), score_these_blocks();
  std::vector<float> straight(static_cast<std::size_t>(panel * tile_keys));
  for (index_t r = 0; r < panel; ++r)
    for (index_t j = 0; j < tile_keys; ++j)
      straight[static_cast<std::size_t>(r * tile_keys + j)] = transposed[j * panel + r];
  const std::vector<float> same(keys.data(), keys.data() + keys.size());
  if (!right(state, queries.data(), same, panel, tile_keys, straight.data(), by_blocks.data())) return;
  constexpr int calls = 64;
  std::vector<double> of_rows, of_blocks, ratios;
  bench::median_seconds(state, [&] {
    of_rows.push_back(program::shortest(1, [&] {
      for (int i = 0; i < calls; ++i) score_rows();
    }));
    of_blocks.push_back(program::shortest(1, [&] {
      for (int i = 0; i < calls; ++i) score_these_blocks();
    }));
    ratios.push_back(of_rows.back() / of_blocks.back());
    return of_rows.back() + of_blocks.back();
  });
  const double flops = 2.0 * calls * panel * tile_keys * head_dim;
  state.counters["rows_GFLOP/s"] = flops / bench::median(of_rows) / 1e9;
  state.counters["blocks_GFLOP/s"] = flops / bench::median(of_blocks) / 1e9;
  state.counters["rows_over_blocks"] = bench::median(ratios);
}

template <class F, index_t ROWS>
void add_decode(index_t context, int threads) {
  benchmark::RegisterBenchmark(
      concat("key_layout/", F::name, "/queries:", ROWS, "/context:", context, "/threads:", threads).c_str(),
      [=](benchmark::State& state) { decode<F, ROWS>(state, context, threads); })
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

template <class F>
void add_format(int threads) {
  for (const index_t context : {512, 4096}) {
    add_decode<F, 1>(context, threads);
    add_decode<F, 2>(context, threads);
    add_decode<F, 4>(context, threads);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, "key_layout_bench: a row for each key against blocks of keys, in turn",
                    [](const bench::CommonOptions& options, std::span<const float>) {
                      benchmark::RegisterBenchmark(
                          concat("key_layout/f32/queries:", detail::AttentionTile<B>::panel, "/prefill").c_str(),
                          prefill)
                          ->UseManualTime()
                          ->Unit(benchmark::kMicrosecond);
                      for (const int threads : options.threads) {
                        add_format<F32Heads>(threads);
                        add_format<Bf16Heads>(threads);
                        add_format<Int8Heads>(threads);
                      }
                    });
}
