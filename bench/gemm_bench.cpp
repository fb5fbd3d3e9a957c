// Products with weights alone: GFLOP/s and GB/s, and their share of what the machine does at most, measured between
// them. Run: gemm_bench [--threads 1,2] [--preset qwen3-0.6b] [--memory file|huge] [--benchmark_filter=gemm/bf16/qkv]
// Medians of alternating runs: --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true
//
// Shares of the FMA peak are those of f32: products of integers may exceed it.
//
// Names are coordinates: gemm/<dtype>/<product>/tokens:<T>/threads:<N>, where tokens:1 is the GEMV of decode, and
// gemv_slice/<dtype>/<product>/ranks:<P>/threads:<N>: one token times the columns that the last of P ranks holds, as a
// share of the rate at which the same numbers arrive when they lie in one piece. Calls take their weights in turn from
// a pool of many times the last cache, of which every benchmark reads four times that cache at least.
#include <benchmark/benchmark.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <tessera/io/presets.hpp>
#include <tessera/kernels/gemm.hpp>

#include "measure.hpp"
#include "program/cli.hpp"
#include "program/memory_file.hpp"

namespace {

using namespace tessera;
using Native = XsimdBackend<>;

struct Options {
  std::string preset = "qwen3-0.6b";
  std::string memory = "file";
  std::string dtype = "bf16";
};

/// One of the products of a decoder layer, or lm_head: the rows of its weights, and their columns.
struct Shape {
  std::string name;
  std::vector<index_t> rows;
  index_t cols = 0;
  bool gated = false;

  [[nodiscard]] index_t all_rows() const {
    index_t sum = 0;
    for (const index_t r : rows) sum += r;
    return sum;
  }
  [[nodiscard]] index_t elements() const { return all_rows() * cols; }
  [[nodiscard]] index_t widest() const { return *std::max_element(rows.begin(), rows.end()); }
};

std::vector<Shape> shapes_of(const ModelConfig& m) {
  const index_t q = m.heads * m.head_dim;
  const index_t kv = m.kv_heads * m.head_dim;
  return {{"qkv", {q, kv, kv}, m.hidden},
          {"o_proj", {m.hidden}, q},
          {"gate_up", {m.intermediate, m.intermediate}, m.hidden, true},
          {"down", {m.hidden}, m.intermediate},
          {"lm_head", {m.vocab}, m.hidden}};
}

/// Random weights, much larger than the caches, from which matrices of any shape are cut.
class Pool {
 public:
  Pool(DType dtype, index_t elements, bool mapped_file) : dtype_(dtype), elements_(elements) {
    const index_t bytes = bytes_of(dtype, elements), scale_bytes = 2 * scales_of(elements);
    if (mapped_file) {
      file_ = std::make_unique<program::MemoryFile>(bytes + scale_bytes);
      data_ = static_cast<char*>(file_->data());
    } else {
      buffer_ = Buffer<char>(bytes + scale_bytes);
      data_ = buffer_.data();
    }
    scales_ = reinterpret_cast<f16_t*>(data_ + bytes);
    if (is_blocks(dtype)) {
      fill_blocks();
    } else {
      fill();
    }
  }

  [[nodiscard]] index_t elements() const { return elements_; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] index_t copies(const Shape& shape) const { return elements_ / shape.elements(); }
  [[nodiscard]] WeightView at(index_t element, index_t rows, index_t cols) const {
    WeightView view{data_ + bytes_of(dtype_, element), dtype_, rows, cols, cols};
    if (is_blocks(dtype_)) view.scales = scales_ + scales_of(element), view.arithmetic = Arithmetic::int8;
    return view;
  }
  /// Of so many elements, with their scales.
  [[nodiscard]] index_t bytes(index_t elements) const { return bytes_of(dtype_, elements) + 2 * scales_of(elements); }

 private:
  [[nodiscard]] index_t scales_of(index_t elements) const {
    if (!is_blocks(dtype_)) return 0;
    return elements / weight_block * with_block_format(dtype_, []<class F>(F) { return F::planes; });
  }
  /// Random integers but -128, which no format has, and scales of random weights.
  void fill_blocks() const {
    std::minstd_rand random(1);
    std::vector<std::int8_t> pattern(1'000'003);  // a prime: no two matrices are alike
    for (std::int8_t& q : pattern) q = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
    const index_t bytes = bytes_of(dtype_, elements_);
    const auto period = static_cast<index_t>(pattern.size());
    Team team(default_threads());
    team.run([&](Worker& worker) {
      const Range mine = worker.share(ceil_div(bytes, period));
      for (index_t i = mine.begin; i < mine.end; ++i)
        std::memcpy(data_ + i * period, pattern.data(), static_cast<std::size_t>(std::min(period, bytes - i * period)));
      const Range scales = worker.share(scales_of(elements_));
      for (index_t i = scales.begin; i < scales.end; ++i) scales_[i] = to_f16(i % 3 == 0 ? -0.0003F : 0.0004F);
    });
  }
  void fill() const {
    constexpr index_t period = 1'000'003;  // a prime: no two matrices are alike
    std::vector<char> pattern(static_cast<std::size_t>(period * bytes_of(dtype_)));
    std::minstd_rand random(1);
    std::normal_distribution<float> normal(0.0F, 0.02F);
    for (index_t i = 0; i < period; ++i) {
      const float value = normal(random);
      const bf16_t upper = to_bf16(value);
      const f16_t half{static_cast<std::uint16_t>(0x2000U | (random() & 0x8FFFU))};  // magnitudes 0.008 to 0.03
      const void* bits = &value;
      if (dtype_ == DType::bf16) bits = &upper;
      if (dtype_ == DType::f16) bits = &half;
      std::memcpy(pattern.data() + i * bytes_of(dtype_), bits, static_cast<std::size_t>(bytes_of(dtype_)));
    }
    const index_t bytes = elements_ * bytes_of(dtype_);
    Team team(default_threads());
    team.run([&](Worker& worker) {
      const Range mine = worker.share(ceil_div(bytes, static_cast<index_t>(pattern.size())));
      for (index_t i = mine.begin; i < mine.end; ++i) {
        const index_t begin = i * static_cast<index_t>(pattern.size());
        const auto size = std::min(static_cast<index_t>(pattern.size()), bytes - begin);
        std::memcpy(data_ + begin, pattern.data(), static_cast<std::size_t>(size));
      }
    });
  }

  DType dtype_;
  index_t elements_;
  std::unique_ptr<program::MemoryFile> file_;
  Buffer<char> buffer_;
  char* data_ = nullptr;
  f16_t* scales_ = nullptr;
};

/// x times the weights of one copy of a shape.
class Operation {
 public:
  Operation(const Pool& pool, Shape shape, index_t tokens)
      : pool_(pool),
        shape_(std::move(shape)),
        tokens_(tokens),
        x_(tokens * shape_.cols),
        out_(tokens * shape_.all_rows()) {
    std::minstd_rand random(2);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    // Multiples of 1 / 127 that reach 1 in every block of 32: exact in 8 bits, too.
    for (index_t i = 0; i < x_.size(); ++i) x_[i] = i % 32 == 0 ? 1.0F : std::rint(127 * uniform(random)) / 127.0F;
  }

  void multiply(Worker& worker, index_t copy) {
    const ConstActivations x = x_.matrix(tokens_, shape_.cols);
    if (shape_.gated) {
      project_gated<Native>(worker, x, weight(copy, 0), weight(copy, 1), out(0));
      return;
    }
    std::array<Projection, 3> projections;
    for (std::size_t i = 0; i < shape_.rows.size(); ++i) projections[i] = {weight(copy, i), nullptr, out(i)};
    project<Native>(worker, x, std::span(projections.data(), shape_.rows.size()));
  }

  /// Largest difference of some results of copy 0 to sums in double.
  [[nodiscard]] double error(Team& team) {
    team.run([&](Worker& worker) { multiply(worker, 0); });
    double worst = 0;
    std::minstd_rand random(3);
    for (int sample = 0; sample < 300; ++sample) {
      const index_t t = static_cast<index_t>(random()) % tokens_;
      const std::size_t i = shape_.gated ? 0 : random() % shape_.rows.size();
      const index_t n = sample == 0 ? shape_.rows[i] - 1 : static_cast<index_t>(random()) % shape_.rows[i];
      double expected = dot(t, weight(0, i), n);
      if (shape_.gated) expected = expected / (1 + std::exp(-expected)) * dot(t, weight(0, 1), n);
      worst = std::max(worst, std::abs(out(i).row(t)[n] - expected));
    }
    return worst;
  }

  [[nodiscard]] double flops() const { return 2.0 * static_cast<double>(tokens_ * shape_.elements()); }
  [[nodiscard]] double bytes() const { return static_cast<double>(pool_.bytes(shape_.elements())); }

 private:
  [[nodiscard]] index_t rows_before(std::size_t i) const {
    index_t sum = 0;
    for (std::size_t j = 0; j < i; ++j) sum += shape_.rows[j];
    return sum;
  }
  [[nodiscard]] WeightView weight(index_t copy, std::size_t i) const {
    const index_t begin = copy % pool_.copies(shape_) * shape_.elements() + rows_before(i) * shape_.cols;
    return pool_.at(begin, shape_.rows[i], shape_.cols);
  }
  [[nodiscard]] Activations out(std::size_t i) const {
    return {out_.data() + tokens_ * rows_before(i), tokens_, shape_.rows[i]};
  }
  [[nodiscard]] double dot(index_t t, const WeightView& weight, index_t n) const {
    std::vector<float> row(static_cast<std::size_t>(weight.cols));
    decode_row(weight, n, row.data());
    double sum = 0;
    for (index_t k = 0; k < weight.cols; ++k)
      sum += static_cast<double>(x_[t * weight.cols + k]) * static_cast<double>(row[static_cast<std::size_t>(k)]);
    return sum;
  }

  const Pool& pool_;
  Shape shape_;
  index_t tokens_;
  Buffer<float> x_;
  Buffer<float> out_;
};

void gemm(benchmark::State& state, const Pool& pool, const Shape& shape, index_t tokens, int threads,
          std::span<const float> memory) {
  Team team(threads);
  Operation operation(pool, shape, tokens);
  if (operation.error(team) > 1e-4) {
    state.SkipWithError("differs from sums in double");
    return;
  }
  // Several calls in one parallel region, as in a step of a model, where one call takes microseconds.
  const index_t calls = std::max<index_t>(1, pool.copies(shape) / tokens);
  index_t copy = 0;
  const auto all_calls = static_cast<double>(calls);
  using Of = bench::Limits::Of;
  bench::Limits limits(team, memory);
  limits.measure(state, {{Of::flops, all_calls * operation.flops()}, {Of::bytes, all_calls * operation.bytes()}}, [&] {
    const double all = program::shortest(1, [&] {
      team.run([&](Worker& worker) {
        for (index_t i = 0; i < calls; ++i) operation.multiply(worker, copy + i);
      });
    });
    copy += calls;
    return all;
  });
}

void gemv_slice(benchmark::State& state, const Pool& pool, const Shape& shape, int ranks, int threads,
                std::span<const float> memory) {
  Team team(threads);
  const Range cols = partition(shape.cols, ranks, ranks - 1, 32);
  const index_t rows = shape.rows[0];
  Buffer<float> x(cols.size());
  Buffer<float> out(rows);
  std::fill_n(x.data(), x.size(), 1.0F);
  const ConstActivations input = x.matrix(1, cols.size());
  const index_t copies = pool.copies(shape);
  const auto seconds_of = [&](auto&& weight_at) {
    return program::shortest(1, [&] {
      team.run([&](Worker& worker) {
        for (index_t i = 0; i < copies; ++i)
          project<Native>(worker, input, std::array{Projection{weight_at(i), nullptr, out.matrix(1, rows)}});
      });
    });
  };
  const auto slice = [&](index_t i) { return pool.at(i * shape.elements(), rows, shape.cols).col_range(cols); };
  const auto whole = [&](index_t i) { return pool.at(i * rows * cols.size(), rows, cols.size()); };
  std::vector<double> shares;
  const auto bytes = static_cast<double>(copies * pool.bytes(rows * cols.size()));
  bench::Limits(team, memory).measure(state, {{bench::Limits::bytes, bytes}}, [&] {
    const double contiguous = seconds_of(whole);
    const double sliced = seconds_of(slice);
    shares.push_back(100 * contiguous / sliced);
    return sliced;
  });
  state.counters["%_of_contiguous"] = bench::median(shares);
}

/// What a kernel takes that has nothing to do: all threads meet at its end. An iteration is so many of them.
constexpr int meetings = 1000;
void start(benchmark::State& state, int threads) {
  Team team(threads);
  const double seconds = bench::median_seconds(state, [&] {
    return program::shortest(1, [&] {
      team.run([](Worker& worker) {
        for (int i = 0; i < meetings; ++i) worker.barrier();
      });
    });
  });
  state.counters["us_of_a_kernel"] = 1e6 * seconds / meetings;
}

DType dtype_named(const std::string& name) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32, DType::int8_blocks, DType::int4_blocks})
    if (name_of(dtype) == name) return dtype;
  fail("--dtype: expected bf16, f16, f32, int8 or int4, found ", name);
}

void run(const Options& options, const bench::CommonOptions& common) {
  const ModelConfig model = preset_named(options.preset).config();
  const DType dtype = dtype_named(options.dtype);
  const Buffer<float> memory = bench::measure_peaks(common);

  // A quarter of a row, of a slice for four ranks, still makes four times the cache.
  const std::vector<Shape> shapes = shapes_of(model);
  index_t elements = 16 * bench::last_cache_bytes() / bytes_of(dtype, weight_block) * weight_block;
  for (const Shape& shape : shapes) elements = std::max(elements, shape.elements());
  const Pool pool(dtype, elements, options.memory == "file");

  const auto add = [&](const std::string& name, auto&& f) {
    return benchmark::RegisterBenchmark(name.c_str(), f)->Unit(benchmark::kMicrosecond);
  };
  for (const int threads : common.threads) {
    add(concat("start/threads:", threads), [threads](benchmark::State& state) {
      start(state, threads);
    })->UseManualTime();
    for (const Shape& shape : shapes) {
      for (const index_t tokens : {1, 4, 16, 17, 32, 64, 128, 512})
        add(concat("gemm/", options.dtype, "/", shape.name, "/tokens:", tokens, "/threads:", threads),
            [&pool, &memory, shape, tokens, threads](benchmark::State& state) {
              gemm(state, pool, shape, tokens, threads, memory.span());
            })
            ->UseManualTime();
    }
    for (const Shape& shape : shapes) {
      if (shape.name != "o_proj" && shape.name != "down") continue;  // those that HeadWise cuts by columns
      for (const int ranks : {2, 4})
        add(concat("gemv_slice/", options.dtype, "/", shape.name, "/ranks:", ranks, "/threads:", threads),
            [&pool, &memory, shape, ranks, threads](benchmark::State& state) {
              gemv_slice(state, pool, shape, ranks, threads, memory.span());
            })
            ->UseManualTime();
    }
  }
  benchmark::RunSpecifiedBenchmarks();
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  CLI::App app("gemm_bench: products with weights, as a share of the machine's limits");
  const bench::CommonOptions common(app);
  Options options;
  app.add_option("--preset", options.preset, "Whose shapes")->capture_default_str();
  app.add_option("--memory", options.memory, "Where weights lie: a mapped file, or huge pages")
      ->check(CLI::IsMember({"file", "huge"}))
      ->capture_default_str();
  app.add_option("--dtype", options.dtype,
                 "Element type of the weights: bf16, f16 or f32; int8 or int4: blocks, multiplied in integers")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    run(options, common);
  } catch (const Error& error) {
    std::fprintf(stderr, "gemm_bench: error: %s\n", error.what());
    return 1;
  }
  return 0;
}
