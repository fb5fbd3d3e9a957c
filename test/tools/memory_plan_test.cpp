// What a model will take before it is loaded: of its weights only those that are converted.
#include "catch.hpp"

#include <tessera/io/presets.hpp>

#include "program/memory_check.hpp"

using namespace tessera;

namespace {

program::MemoryPlan plan_with(const ModelConfig& config, const std::string& weights, const std::string& lm_head,
                              const StoredTypes& stored = {}) {
  program::ModelOptions options;
  options.weights = weights, options.lm_head = lm_head;
  return program::memory_plan(options, config, stored, 2, 1);
}

}  // namespace

TEST_CASE("of weights a rank keeps for itself those that are converted, at what they take with their scales") {
  const ModelConfig config = preset_named("qwen3-0.6b").config();
  const auto converts = [&](const program::MemoryPlan& plan) {
    return std::pair(plan.converts_layers, plan.converts_lm_head);
  };
  const StoredTypes int8{DType::int8_blocks, DType::int8_blocks};
  CHECK(converts(plan_with(config, "stored", "")) == std::pair(false, false));
  CHECK(converts(plan_with(config, "stored", "stored")) == std::pair(false, false));
  CHECK(converts(plan_with(config, "stored", "int8")) == std::pair(false, true));
  CHECK(converts(plan_with(config, "int8", "stored")) == std::pair(true, false));
  CHECK(converts(plan_with(config, "int4", "")) == std::pair(true, true));
  CHECK(converts(plan_with(config, "int8", "", int8)) == std::pair(false, false));
  CHECK(converts(plan_with(config, "int4", "int8", int8)) == std::pair(true, false));

  const program::MemoryPlan stored = plan_with(config, "stored", "", {DType::int4_blocks, DType::bf16});
  CHECK(stored.bytes.layers == 0.625);
  CHECK(stored.bytes.lm_head == 2);
  CHECK(plan_with(config, "stored", "", int8).bytes.layers == 1.0625);

  const Limits limits{.max_tokens = 1, .max_positions = 1};
  const index_t none = program::own_bytes(plan_with(config, "stored", ""), 0, 2, limits);
  const index_t lm_head = program::own_bytes(plan_with(config, "stored", "int8"), 0, 2, limits);
  CHECK(static_cast<double>(lm_head - none) == Approx(1.0625 * static_cast<double>(config.vocab * config.hidden)));
}
