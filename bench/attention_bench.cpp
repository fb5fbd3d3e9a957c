// Attention alone, causal prefill and decode, as a share of the machine's limits measured in between.
// Run: attention_bench [--threads 1,2] [--benchmark_filter=prefill]
//
// Names are coordinates: attention/<backend>/<policy>/prefill/tokens:<T>/threads:<N>, and decode/context:<C>. Shape of
// Qwen3-0.6B: 16 heads, 8 KV heads, head_dim 128. Prefill counts the arithmetic of visible pairs only, decode the bytes
// of visible keys and values. attention_ratio/<one>_over_<other> says how many times the time of the other the one
// takes, both in turn; the predecessor's ratios (tensor_cpp: its AVX2 online attention against its scalar standard one)
// stand beside ours.
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include <tessera/policies/online_softmax.hpp>
#include <tessera/policies/standard_softmax.hpp>

#include "measure.hpp"
#include "program/cli.hpp"

namespace {

using namespace tessera;
using Native = XsimdBackend<>;

constexpr HeadLayout layout{16, 128, 2, 0};
constexpr index_t width = 16 * 128;
const float scale = 1.0F / std::sqrt(128.0F);

/// `tokens` query rows of one sequence behind `context` cached positions, in `copies` caches that take turns.
class Sequence {
 public:
  Sequence(Team& team, index_t tokens, index_t context, index_t copies)
      : team_(team),
        tokens_(tokens),
        slots_(tokens + context),
        copies_(copies),
        queries_(tokens * width),
        keys_(copies * cache_size()),
        values_(copies * cache_size()),
        out_(tokens * width) {
    // Each worker fills, and so first touches, an even part.
    team.run([&](Worker& worker) {
      for (const Buffer<float>* buffer : {&queries_, &keys_, &values_}) {
        const Range mine = worker.share(buffer->size());
        std::minstd_rand random(static_cast<unsigned>(1 + mine.begin % 65521));
        std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
        for (index_t i = mine.begin; i < mine.end; ++i) (*buffer)[i] = uniform(random);
      }
    });
    for (index_t i = 0; i < tokens; ++i) visible_.push_back(context + i + 1);
  }

  /// Seconds of attention to every copy of the cache.
  template <class Softmax, SimdBackend B>
  [[nodiscard]] double attend() {
    return program::shortest(1, [&] {
      team_.run([&](Worker& worker) {
        for (index_t copy = 0; copy < copies_; ++copy) attend<Softmax, B>(worker, copy);
      });
    });
  }

  [[nodiscard]] double flops() const {  // of one attend: 2 for the score and 2 for the value, per pair and element
    double pairs = 0;
    for (const index_t v : visible_) pairs += static_cast<double>(v);
    return 4.0 * pairs * static_cast<double>(width * copies_);
  }
  [[nodiscard]] double bytes() const { return static_cast<double>(keys_.bytes() + values_.bytes()); }
  [[nodiscard]] const Buffer<float>& out() const { return out_; }

 private:
  [[nodiscard]] index_t cache_size() const { return layout.kv_heads() * slots_ * layout.head_dim; }

  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, index_t copy) {
    const index_t at = copy * cache_size();
    const AttentionTask task{
        0, tokens_,
        KeyValueView::of_floats(keys_.data() + at, values_.data() + at, slots_ * layout.head_dim, layout.head_dim),
        visible_.data()};
    const AttentionProblem problem{layout, scale, queries_.matrix(tokens_, width), {&task, 1}};
    Softmax::template attend<B>(worker, problem, out_.matrix(tokens_, width));
  }

  Team& team_;
  index_t tokens_;
  index_t slots_;
  index_t copies_;
  Buffer<float> queries_;
  Buffer<float> keys_;
  Buffer<float> values_;
  Buffer<float> out_;
  std::vector<index_t> visible_;
};

/// Whether a small problem of the same kind is solved as the scalar textbook version solves it.
template <class Softmax, SimdBackend B>
bool right(benchmark::State& state, Team& team, index_t tokens, index_t context) {
  Sequence small(team, std::min<index_t>(tokens, 70), std::min<index_t>(context, 500), 1);
  static_cast<void>(small.attend<StandardSoftmax, ScalarBackend>());
  const std::vector<float> expected(small.out().data(), small.out().data() + small.out().size());
  static_cast<void>(small.attend<Softmax, B>());
  double error = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    error = std::max(error, std::abs(static_cast<double>(expected[i]) - small.out()[static_cast<index_t>(i)]));
  if (error > 1e-4) state.SkipWithError("differs from the scalar standard attention");
  return error <= 1e-4;
}

template <class Softmax, SimdBackend B>
void prefill(benchmark::State& state, index_t tokens, int threads, std::span<const float> memory) {
  Team team(threads);
  if (!right<Softmax, B>(state, team, tokens, 0)) return;
  Sequence sequence(team, tokens, 0, 1);
  bench::Limits(team, memory).measure(state, {{bench::Limits::flops, sequence.flops()}}, [&] {
    return sequence.attend<Softmax, B>();
  });
}

template <class Softmax, SimdBackend B>
void decode(benchmark::State& state, index_t context, int threads, std::span<const float> memory) {
  Team team(threads);
  if (!right<Softmax, B>(state, team, 1, context - 1)) return;
  // It finds a cold cache: one of many layers, between which all weights pass through the caches.
  const index_t bytes_of_copy = 2 * sizeof(float) * layout.kv_heads() * layout.head_dim * context;
  Sequence sequence(team, 1, context - 1, std::max<index_t>(2, 8 * bench::last_cache_bytes() / bytes_of_copy));
  bench::Limits(team, memory).measure(state, {{bench::Limits::bytes, sequence.bytes()}}, [&] {
    return sequence.attend<Softmax, B>();
  });
}

/// The time of one version over that of another, measured in turn; `predecessor` is 0 where it had no such number.
template <class Softmax, SimdBackend B, class OtherSoftmax, SimdBackend OtherB>
void ratio(benchmark::State& state, index_t tokens, int threads, double predecessor) {
  Team team(threads);
  if (!right<Softmax, B>(state, team, tokens, 0) || !right<OtherSoftmax, OtherB>(state, team, tokens, 0)) return;
  Sequence sequence(team, tokens, 0, 1);
  std::vector<double> ratios;
  const double seconds = bench::median_seconds(state, [&] {
    const double one = sequence.attend<Softmax, B>();
    const double other = sequence.attend<OtherSoftmax, OtherB>();
    ratios.push_back(one / other);
    return one + other;
  });
  static_cast<void>(seconds);
  state.counters["times"] = bench::median(ratios);
  if (predecessor > 0) state.counters["predecessor"] = predecessor;
}

template <class F>
void add(const std::string& name, F&& f) {
  benchmark::RegisterBenchmark(name.c_str(), f)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

template <class Softmax, SimdBackend B>
void add_policy(int threads, std::span<const float> memory) {
  const std::string name = concat("attention/", B::name(), "/", Softmax::name);
  const std::string with = concat("/threads:", threads);
  for (const index_t tokens : {32, 64, 128, 256, 512, 1024, 2048})
    add(concat(name, "/prefill/tokens:", tokens, with),
        [=](benchmark::State& state) { prefill<Softmax, B>(state, tokens, threads, memory); });
  for (const index_t context : {512, 1024, 2048, 4096, 8192, 16384})
    add(concat(name, "/decode/context:", context, with),
        [=](benchmark::State& state) { decode<Softmax, B>(state, context, threads, memory); });
}

void add_ratios(int threads) {
  const std::string with = concat("/threads:", threads);
  for (const index_t tokens : {32, 64, 128, 256, 1024, 2048})
    add(concat("attention_ratio/", Native::name(), "/standard_over_online/tokens:", tokens, with),
        [=](benchmark::State& state) {
          ratio<StandardSoftmax, Native, OnlineSoftmax, Native>(state, tokens, threads, 0);
        });
  const std::pair<index_t, double> predecessor[] = {{32, 2.27}, {128, 2.95}, {256, 4.31}, {1024, 4.96}};
  for (const auto& [tokens, times] : predecessor)
    add(concat("attention_ratio/scalar_standard_over_native_online/tokens:", tokens, with),
        [tokens = tokens, times = times, threads](benchmark::State& state) {
          ratio<StandardSoftmax, ScalarBackend, OnlineSoftmax, Native>(state, tokens, threads, times);
        });
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, "attention_bench: attention alone, as a share of the machine's limits",
                    [](const bench::CommonOptions& options, std::span<const float> memory) {
                      for (const int threads : options.threads) {
                        add_policy<OnlineSoftmax, Native>(threads, memory);
                        add_policy<StandardSoftmax, Native>(threads, memory);
                        add_ratios(threads);
                      }
                    });
}
