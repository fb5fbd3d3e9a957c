// Attention alone, causal prefill and decode, as a share of the machine's limits measured in the same process.
// Run: attention_bench [--benchmark_filter=prefill] ; threads: OMP_NUM_THREADS, else the allowed cores.
//
// Names are coordinates: attention/<backend>/<policy>/<phase>/<tokens>. Shape of Qwen3-0.6B: 16 heads, 8 KV heads,
// head_dim 128. Prefill counts the arithmetic of visible pairs only, decode the bytes of visible keys and values.
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <tessera/parallel/team.hpp>
#include <tessera/policies/online_softmax.hpp>
#include <tessera/policies/standard_softmax.hpp>

#include "machine_peak.hpp"

namespace {

using namespace tessera;

constexpr HeadLayout layout{16, 128, 2, 0};
constexpr index_t width = 16 * 128;
const float scale = 1.0F / std::sqrt(128.0F);

Team& team() {
  static Team all(default_threads());
  return all;
}

/// `tokens` query rows of one sequence behind `context` cached positions, in `copies` caches that take turns.
class Sequence {
 public:
  Sequence(index_t tokens, index_t context, index_t copies)
      : tokens_(tokens),
        slots_(tokens + context),
        copies_(copies),
        queries_(tokens * width),
        keys_(copies * cache_size()),
        values_(copies * cache_size()),
        out_(tokens * width) {
    // Each worker fills, and so first touches, an even part; a few distinct values are enough for arithmetic.
    team().run([&](Worker& worker) {
      for (const Buffer<float>* buffer : {&queries_, &keys_, &values_}) {
        const Range mine = worker.share(buffer->size());
        std::minstd_rand random(static_cast<unsigned>(1 + mine.begin % 65521));
        std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
        for (index_t i = mine.begin; i < mine.end; ++i) (*buffer)[i] = uniform(random);
      }
    });
    for (index_t i = 0; i < tokens; ++i) visible_.push_back(context + i + 1);
  }

  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, index_t copy) {
    const index_t at = copy % copies_ * cache_size();
    const AttentionTask task{
        0, tokens_, {keys_.data() + at, values_.data() + at, slots_ * layout.head_dim, layout.head_dim},
        visible_.data()};
    const AttentionProblem problem{layout, scale, queries_.matrix(tokens_, width), {&task, 1}};
    Softmax::template attend<B>(worker, problem, out_.matrix(tokens_, width));
  }

  [[nodiscard]] double flops() const {  // of one attend: 2 for the score and 2 for the value, per pair and element
    double pairs = 0;
    for (const index_t v : visible_) pairs += static_cast<double>(v);
    return 4.0 * pairs * static_cast<double>(width);
  }
  [[nodiscard]] double bytes() const { return 2.0 * sizeof(float) * static_cast<double>(cache_size()); }
  [[nodiscard]] const Buffer<float>& out() const { return out_; }

 private:
  [[nodiscard]] index_t cache_size() const { return layout.kv_heads() * slots_ * layout.head_dim; }

  index_t tokens_;
  index_t slots_;
  index_t copies_;
  Buffer<float> queries_;
  Buffer<float> keys_;
  Buffer<float> values_;
  Buffer<float> out_;
  std::vector<index_t> visible_;
};

/// Largest difference to the scalar textbook version, on a problem of the same kind that takes it no time.
template <class Softmax, SimdBackend B>
double error_against_scalar(index_t tokens, index_t context) {
  Sequence small(std::min<index_t>(tokens, 70), std::min<index_t>(context, 500), 1);
  std::vector<float> expected;
  team().run([&](Worker& w) { small.attend<StandardSoftmax, ScalarBackend>(w, 0); });
  expected.assign(small.out().data(), small.out().data() + small.out().size());
  team().run([&](Worker& w) { small.attend<Softmax, B>(w, 0); });
  double error = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    error = std::max(error, std::abs(static_cast<double>(expected[i]) - small.out()[static_cast<index_t>(i)]));
  return error;
}

template <class Softmax, SimdBackend B>
void run(benchmark::State& state, index_t tokens, index_t context) {
  if (error_against_scalar<Softmax, B>(tokens, context) > 1e-4) {
    state.SkipWithError("differs from the scalar standard attention");
    return;
  }
  // Decode finds a cold cache: one of 28 layers, between which all weights pass through the caches.
  const bool decode = tokens == 1;
  const index_t copies = decode ? std::max<index_t>(2, (index_t{1} << 29) / (context * layout.kv_heads() * 1024)) : 1;
  Sequence sequence(tokens, context, copies);
  index_t copy = 0;
  for (auto _ : state) {
    team().run([&](Worker& w) {
      for (index_t i = 0; i < (decode ? copies : 1); ++i) sequence.attend<Softmax, B>(w, copy + i);
    });
    if (decode) copy += copies;
  }
  const double calls = static_cast<double>(state.iterations()) * static_cast<double>(decode ? copies : 1);
  using benchmark::Counter;
  if (decode) {
    state.counters["GB/s"] = Counter(calls * sequence.bytes() / 1e9, Counter::kIsRate);
    state.counters["%_of_read_bandwidth"] =
        Counter(100 * calls * sequence.bytes() / bench::read_bandwidth(team()), Counter::kIsRate);
  } else {
    state.counters["GFLOP/s"] = Counter(calls * sequence.flops() / 1e9, Counter::kIsRate);
    state.counters["%_of_FMA_peak"] =
        Counter(100 * calls * sequence.flops() / bench::fma_peak<XsimdBackend<>>(team()), Counter::kIsRate);
  }
}

template <class Softmax, SimdBackend B>
void add(std::string_view backend) {
  const std::string name = concat("attention/", backend, "/", Softmax::name);
  const auto with = [&](std::string phase, index_t tokens, index_t context) {
    benchmark::RegisterBenchmark((name + phase).c_str(),
                                 [=](benchmark::State& state) { run<Softmax, B>(state, tokens, context); })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  };
  for (const index_t tokens : {32, 128, 256, 1024, 2048}) with(concat("/prefill/", tokens), tokens, 0);
  for (const index_t context : {128, 1024, 4096}) with(concat("/decode/", context), 1, context - 1);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("threads", std::to_string(team().threads()));
  benchmark::AddCustomContext("FMA peak, GFLOP/s", std::to_string(bench::fma_peak<XsimdBackend<>>(team()) / 1e9));
  benchmark::AddCustomContext("read bandwidth, GB/s", std::to_string(bench::read_bandwidth(team()) / 1e9));
  add<OnlineSoftmax, XsimdBackend<>>(XsimdBackend<>::name());
  add<StandardSoftmax, XsimdBackend<>>(XsimdBackend<>::name());
  add<StandardSoftmax, ScalarBackend>(ScalarBackend::name());
  benchmark::RunSpecifiedBenchmarks();
}
