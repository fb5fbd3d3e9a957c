#include "program/memory_check.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <tessera/comm/agree.hpp>
#include <tessera/kernels/attention_pass.hpp>
#include <tessera/simd/xsimd_backend.hpp>

#include "program/machine_memory.hpp"

namespace tessera::program {

namespace {

struct Machine {
  int id = 0;
  index_t available = 0;
};

std::string gigabytes(index_t bytes) { return fmt::format("{:.2f} GB", static_cast<double>(bytes) / 1e9); }

/// What the ranks on the machine of rank `of` keep together.
index_t bytes_on(const std::vector<Machine>& machines, std::size_t of, const MemoryPlan& plan, const Limits& limits) {
  index_t sum = 0;
  for (std::size_t r = 0; r < machines.size(); ++r)
    if (machines[r].id == machines[of].id)
      sum += own_bytes(plan, static_cast<index_t>(r), static_cast<index_t>(machines.size()), limits);
  return sum;
}

/// The most positions of a sequence for which there is room; 0 where there is none for any.
index_t fitting_positions(const std::vector<Machine>& machines, std::size_t of, const MemoryPlan& plan, Limits limits) {
  index_t fits = 0;
  for (index_t too_many = limits.max_positions; too_many - fits > 1;) {
    limits.max_positions = fits + (too_many - fits) / 2;
    if (bytes_on(machines, of, plan, limits) <= machines[of].available)
      fits = limits.max_positions;
    else
      too_many = limits.max_positions;
  }
  return fits;
}

}  // namespace

MemoryPlan memory_plan(const ModelOptions& options, const ModelConfig& config, const StoredTypes& stored, index_t ranks,
                       int threads) {
  const StoredTypes used = converted_types(stored, chosen_formats(options));
  return {config,
          chosen_policies(options, ranks),
          bytes_per_number(used, chosen_cache(options), config.head_dim),
          used.layers != stored.layers,
          used.lm_head != stored.lm_head,
          options.copy_weights,
          threads};
}

StoredTypes stored_types(const Checkpoint& checkpoint, const ModelConfig& config) {
  // In the order of loading, so that a checkpoint without one of them is refused for the first.
  const DType embedding = checkpoint.weight("model.embed_tokens.weight", config.vocab, config.hidden).dtype;
  const index_t q = config.heads * config.head_dim;
  const DType layers = checkpoint.weight("model.layers.0.self_attn.q_proj.weight", q, config.hidden).dtype;
  if (config.tied_embeddings) return {layers, embedding};
  return {layers, checkpoint.weight("lm_head.weight", config.vocab, config.hidden).dtype};
}

index_t own_bytes(const MemoryPlan& plan, index_t rank, index_t ranks, Limits limits) {
  limits.states_merge = plan.policies.combination->states_merge;
  const Ranks here{rank, ranks, plan.policies.shares, plan.policies.inner};
  const ShardingArithmetic& sharding = plan.policies.combination->arithmetic;
  index_t own = footprint(sharding, plan.config, here, limits, plan.bytes).own();
  const auto layers_of = [&](const WeightSlice& slice) {
    const auto weights = static_cast<double>(plan.config.layers * layer_weights(plan.config, slice));
    return static_cast<index_t>(plan.bytes.layers * weights);
  };
  const auto lm_head_of = [&](const WeightSlice& slice) {
    return static_cast<index_t>(plan.bytes.lm_head * static_cast<double>(slice.vocab.size() * plan.config.hidden));
  };
  const WeightSlice whole{
      {0, plan.config.heads}, {0, plan.config.kv_heads}, {0, plan.config.intermediate}, {0, plan.config.vocab}};
  if (plan.converts_layers) own += layers_of(whole);
  if (plan.converts_lm_head) own += lm_head_of(whole);
  if (plan.copies) {
    const WeightSlice slice = sharding.plan(plan.config, here, PlannedStep(1, 0, 1).step()).slice;
    own += layers_of(slice) + lm_head_of(slice);
  }
  // Scores of all keys of a block of queries, and keys and values as floats: each worker has a tile as long as the
  // context.
  if (!limits.states_merge)
    own += plan.threads * static_cast<index_t>(sizeof(float)) *
           tessera::detail::AttentionPass<XsimdBackend<>>(plan.config.head_dim, limits.max_positions,
                                                          limits.cache != CacheType::f32)
               .size();
  return own;
}

void require_memory(Communicator comm, const MemoryPlan& plan, const Limits& limits) {
  const Machine mine{comm.machine(), memory_of_machine().available};
  std::vector<Machine> machines(static_cast<std::size_t>(comm.size()));
  comm.allgather<Machine>({&mine, 1}, std::span(machines), std::vector<index_t>(machines.size(), 1));
  agree(comm, [&] {
    for (std::size_t r = 0; r < machines.size(); ++r) {
      const index_t needed = bytes_on(machines, r, plan, limits), free = machines[r].available;
      if (free < 0 || needed <= free) continue;
      const auto together = std::count_if(machines.begin(), machines.end(),
                                          [&](const Machine& other) { return other.id == machines[r].id; });
      const index_t fits = fitting_positions(machines, r, plan, limits);
      fail("memory: expected ", gigabytes(needed), " of free memory on the machine of rank ", r, ", for ", together,
           together == 1 ? " rank with " : " ranks with ", limits.max_positions, " positions of ", limits.max_sequences,
           limits.max_sequences == 1 ? " sequence" : " sequences", "; found ", gigabytes(free), ", which has room for ",
           fits, fits > 0 ? " positions: ask for fewer" : " positions of so many sequences: take more machines",
           ", or try it with --ignore-memory");
    }
  });
}

}  // namespace tessera::program
