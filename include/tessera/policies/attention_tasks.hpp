#pragma once
// The attention tasks of a step, as the kernels take them: which rows see which prefix of which keys.

#include <cmath>
#include <vector>

#include <tessera/policies/sharding.hpp>

namespace tessera {

/// The attention tasks of a step: one per segment with rows on this rank. Memory is taken at construction.
class AttentionTasks {
 public:
  explicit AttentionTasks(const Limits& limits) : blocks_(limits.attention) {
    visible_.reserve(static_cast<std::size_t>(limits.max_tokens));
    tasks_.reserve(static_cast<std::size_t>(limits.max_sequences));
    sequences_.reserve(static_cast<std::size_t>(limits.max_sequences));
  }

  /// Rows `rows` of the step against keys laid out as `layout`: row t sees the slots of positions up to its own.
  void plan(const Step& step, const RowSet& rows, const CacheLayout& layout) {
    visible_.clear(), tasks_.clear(), sequences_.clear();
    for (const Segment& s : step.segments) {
      const auto first = static_cast<index_t>(visible_.size());
      for (const Range& run : rows.runs) {
        const Range here = intersect(run, {s.row, s.row + s.count});
        for (index_t t = here.begin; t < here.end; ++t)
          visible_.push_back(layout.slots(s.sequence, s.position + (t - s.row) + 1));
      }
      const index_t count = static_cast<index_t>(visible_.size()) - first;
      if (count == 0) continue;
      tasks_.push_back({first, count, {}, visible_.data() + first});
      sequences_.push_back(s.sequence);
    }
  }

  /// Points the tasks at a layer of the cache. One worker calls it, before a barrier.
  void aim(const KvCache& cache, index_t layer) {
    for (std::size_t i = 0; i < tasks_.size(); ++i) tasks_[i].cache = cache.view(layer, sequences_[i]);
  }

  [[nodiscard]] std::span<const AttentionTask> tasks() const { return tasks_; }
  [[nodiscard]] AttentionBlocks blocks() const { return blocks_; }

 private:
  AttentionBlocks blocks_;
  std::vector<index_t> visible_;
  std::vector<AttentionTask> tasks_;
  std::vector<index_t> sequences_;
};

/// Query heads of `slice` against the KV heads of `layout`, as the attention kernels take them.
[[nodiscard]] inline HeadLayout head_layout(const ModelConfig& config, Range q_heads, Range kv_heads) {
  const index_t offset = q_heads.empty() ? 0 : q_heads.begin - kv_heads.begin * config.group();
  return {q_heads.size(), config.head_dim, config.group(), offset};
}

/// What scores are multiplied by: head_dim^-1/2.
[[nodiscard]] inline float attention_scale(const ModelConfig& config) {
  return 1.0F / std::sqrt(static_cast<float>(config.head_dim));
}

}  // namespace tessera
