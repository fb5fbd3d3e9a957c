// Weights in blocks under every combination of policies and number of ranks give what the same weights give in f32.

#include "catch.hpp"

#include <deque>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"
#include "program/one_rank.hpp"

using namespace tessera;
using program::Golden;
using program::Outcome;

namespace {

/// The weights of blocks, widened to f32 in plain loops: what no kernel for blocks has touched.
class Widened {
 public:
  explicit Widened(const ModelWeights& weights) : weights_(weights) {
    widen(weights_.embedding), widen(weights_.lm_head);
    for (LayerWeights& w : weights_.layers)
      for (WeightView* view : {&w.q_proj, &w.k_proj, &w.v_proj, &w.o_proj, &w.gate_proj, &w.up_proj, &w.down_proj}) {
        blocks_ += is_blocks(view->dtype) ? 1 : 0;
        widen(*view);
      }
  }
  [[nodiscard]] const ModelWeights& weights() const { return weights_; }
  [[nodiscard]] index_t blocks() const { return blocks_; }  ///< matrices of layers that were in blocks

 private:
  void widen(WeightView& view) {
    const Buffer<float>& values = storage_.emplace_back(view.rows * view.cols);
    for (index_t r = 0; r < view.rows; ++r) decode_row(view, r, values.data() + r * view.cols);
    view = {values.data(), DType::f32, view.rows, view.cols, view.cols};
  }

  ModelWeights weights_;
  std::deque<Buffer<float>> storage_;
  index_t blocks_ = 0;
};

/// A checkpoint's weights in a format, with the logits and greedy ids that the scalar reference finds for them.
Golden quantised(const std::filesystem::path& folder, const WeightFormats& formats, index_t expected_blocks) {
  Golden g;
  g.name = folder.filename().string();
  g.config = read_config(folder);
  g.weights = load_weights(Checkpoint::open(folder), g.config, formats, 2);
  for (index_t i = 0; i < 29; ++i) g.prompt.push_back(static_cast<token_t>((i * 7919 + 11) % g.config.vocab));
  g.greedy.assign(6, 0);
  g.logits.assign(g.prompt.size() * static_cast<std::size_t>(g.config.vocab), 0.0F);
  const Widened widened(g.weights);
  REQUIRE(widened.blocks() == expected_blocks * g.config.layers);
  program::expect_one_rank(g, widened.weights());
  return g;
}

/// A model's weights in a format of its own ("bf16", "int8" or "int4"), of which one in 600 is 30 times as large as it
/// was, and a column of each matrix 10 times.
class WithOutliers {
 public:
  WithOutliers(const ModelWeights& weights, std::string_view format, index_t head_dim)
      : widened_(weights), weights_(widened_.weights()) {
    for (LayerWeights& w : weights_.layers)
      for (WeightView* view : {&w.q_proj, &w.k_proj, &w.v_proj, &w.o_proj, &w.gate_proj, &w.up_proj, &w.down_proj})
        keep(*view, view == &w.o_proj && head_dim % weight_block != 0 ? "bf16" : format);  // ranks cut it between heads
  }
  [[nodiscard]] const ModelWeights& weights() const { return weights_; }

 private:
  void keep(WeightView& view, std::string_view format) {
    Buffer<float> values(view.rows * view.cols);
    for (index_t r = 0; r < view.rows; ++r) decode_row(view, r, values.data() + r * view.cols);
    for (index_t i = 0; i < view.rows * view.cols; ++i)
      values.data()[i] *= (i * 7919 % 600 == 0 ? 30.0F : 1.0F) * (i % view.cols == view.cols / 3 ? 10.0F : 1.0F);
    const WeightView changed{values.data(), DType::f32, view.rows, view.cols, view.cols};
    if (format == "int8" && view.cols % weight_block == 0) {
      view = blocks_.emplace_back(encode_weight<Int8Blocks>(team_, changed)).view;
    } else if (format == "int4" && view.cols % weight_block == 0) {
      view = blocks_.emplace_back(encode_weight<Int4Blocks>(team_, changed)).view;
    } else {
      const Buffer<bf16_t>& rounded = rounded_.emplace_back(view.rows * view.cols);
      for (index_t i = 0; i < view.rows * view.cols; ++i) rounded.data()[i] = to_bf16(values.data()[i]);
      view = {rounded.data(), DType::bf16, view.rows, view.cols, view.cols};
    }
  }

  Widened widened_;
  ModelWeights weights_;
  Team team_{2};
  std::deque<Buffer<bf16_t>> rounded_;
  std::deque<EncodedWeight> blocks_;
};

void hold(const Combination& row, const Golden& g, index_t ranks) {
  const index_t inner = row.is_hybrid() && ranks % 2 == 0 ? 2 : 1;
  INFO(g.name << ": " << row.sharding << ", decode " << row.decode << ", " << row.softmax << ", " << row.backend << ", "
              << ranks << " ranks");
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
  InProcess::run(static_cast<int>(ranks), [&](Communicator comm) {
    const auto model = row.make(comm, g.config, g.weights, {.limits = program::limits_of(g), .inner = inner});
    outcomes[static_cast<std::size_t>(comm.rank())] = program::run_golden(*model, g, {5, 1, 17, 3});
  });
  for (const Outcome& outcome : outcomes) {
    CHECK(outcome.worst <= (row.backend == "scalar" ? 1e-4 : 2e-4));
    CHECK(outcome.greedy == g.greedy);
    CHECK(outcome.last_logits == outcomes.front().last_logits);
  }
}

}  // namespace

TEST_CASE("weights in blocks give the same logits under every combination and number of ranks as widened to f32") {
  const auto* const format = GENERATE("int8", "int4");
  // All seven matrices of a layer of the demo model; o_proj of the tiny one is cut between heads of 16, and stays.
  const auto [folder, blocks] = GENERATE(std::pair<std::filesystem::path, index_t>(TESSERA_DEMO_MODEL, 7),
                                         std::pair(std::filesystem::path(TESSERA_GOLDEN) / "qwen2-tiny", index_t{6}));
  const Golden g = quantised(folder, {format, ""}, blocks);
  for (const Combination& row : program::shipped_combinations()) {
    if (row.backend == "scalar" && row.sharding != "headwise") continue;
    for (const index_t ranks : {1, 2, 3, 4}) hold(row, g, ranks);
  }
}

TEST_CASE("weights with outliers give the same logits under every combination and format as widened to f32") {
  const auto* const format = GENERATE("bf16", "int8", "int4");
  Golden g;
  const std::filesystem::path folder = std::filesystem::path(TESSERA_GOLDEN) / "qwen2-tiny";
  g.name = format;
  g.config = read_config(folder);
  const WithOutliers changed(load_weights(Checkpoint::open(folder), g.config), format, g.config.head_dim);
  g.weights = changed.weights();
  for (index_t i = 0; i < 29; ++i) g.prompt.push_back(static_cast<token_t>((i * 7919 + 11) % g.config.vocab));
  g.greedy.assign(6, 0);
  g.logits.assign(g.prompt.size() * static_cast<std::size_t>(g.config.vocab), 0.0F);
  program::expect_one_rank(g, Widened(g.weights).weights());
  for (const Combination& row : program::shipped_combinations()) {
    if (row.backend == "scalar" && row.sharding != "headwise") continue;
    for (const index_t ranks : {1, 2, 3}) hold(row, g, ranks);
  }
}

TEST_CASE(
    "in 8-bit integers logits are close to those in f32, and to one rank's under every combination and number of "
    "them") {
  // A sum over ranks differs in the last bit, and moves some activations over the edge between two integers.
  const auto [format, from_f32, from_one_rank] = GENERATE(std::tuple("int8", 0.1, 0.1), std::tuple("int4", 0.1, 0.1));
  const std::filesystem::path folder = TESSERA_DEMO_MODEL;
  Golden g = quantised(folder, {format, ""}, 7);
  g.weights = load_weights(Checkpoint::open(folder), g.config, {format, "", Arithmetic::int8}, 2);
  const std::vector<float> exact = g.logits;
  program::expect_one_rank(g, g.weights, "native");
  const double error = program::worst_error(g.logits.data(), exact.data(), std::ssize(g.prompt), g.config.vocab);
  CHECK(error <= from_f32);
  CHECK(error > 1e-4);  // it is another arithmetic
  double worst = 0;
  for (const Combination& row : program::shipped_combinations()) {
    if (row.backend == "scalar" && row.sharding != "headwise") continue;
    for (const index_t ranks : {1, 2, 3, 4}) {
      const index_t inner = row.is_hybrid() && ranks % 2 == 0 ? 2 : 1;
      std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
      InProcess::run(static_cast<int>(ranks), [&](Communicator comm) {
        const auto model = row.make(comm, g.config, g.weights, {.limits = program::limits_of(g), .inner = inner});
        outcomes[static_cast<std::size_t>(comm.rank())] = program::run_golden(*model, g, {5, 1, 17, 3});
      });
      for (const Outcome& outcome : outcomes) {
        worst = std::max(worst, outcome.worst);
        CHECK(outcome.last_logits == outcomes.front().last_logits);
        CHECK(outcome.greedy == outcomes.front().greedy);
      }
    }
  }
  INFO(format << ": one rank is " << error << " standard deviations from f32, the others up to " << worst
              << " from it");
  CHECK(worst <= from_one_rank);
}

TEST_CASE("lm_head has a format of its own") {
  const std::filesystem::path folder = TESSERA_DEMO_MODEL;
  const ModelConfig config = read_config(folder);
  const auto head_of = [&](const WeightFormats& formats) {
    const ModelWeights weights = load_weights(Checkpoint::open(folder), config, formats);
    CHECK(weights.embedding.data == weights.lm_head.data);  // tied: one table
    return std::pair(weights.layers[0].q_proj.dtype, weights.lm_head.dtype);
  };
  CHECK(head_of({"int4", "int8"}) == std::pair(DType::int4_blocks, DType::int8_blocks));
  CHECK(head_of({"int4", ""}) == std::pair(DType::int4_blocks, DType::int4_blocks));
  CHECK(head_of({"stored", "int8"}) == std::pair(DType::bf16, DType::int8_blocks));
  CHECK(head_of({"int8", "stored"}) == std::pair(DType::int8_blocks, DType::bf16));
}
