#pragma once
// Keys travel to queries: every rank gathers the new K and V of all ranks, and the cached stripes where there are some.

#include <tessera/policies/token_split.hpp>

namespace tessera {

/// One allgather of the new rows in a layer, and one of the cached stripes in a later chunk of a prompt. What a layer
/// gathers lives in a staging cache of one layer, in position order.
template <class Storage = CacheByPosition>
class AllGatherKv {
 public:
  using Cache = Storage;
  static constexpr std::string_view strategy = "sequence";

  [[nodiscard]] static Traffic traffic(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                       const Step& step) {
    const index_t head = 2 * config.head_dim;
    Traffic traffic;
    traffic.add(Collective::allgather, 1, step.rows * slice.kv_heads.size() * head, ranks.size);
    if (past_of(step) == 0) return traffic;
    index_t cached = 0;
    for (index_t r = 0; r < ranks.size; ++r) {
      const CacheLayout theirs = Storage::layout(config, slice, ranks.at(r));
      for (const Segment& s : step.segments) cached += theirs.slots(s.sequence, s.position) * theirs.kv_heads.size();
    }
    return traffic.add(Collective::allgather, 1, cached * head, ranks.size);
  }
  /// The new rows of all ranks, the staging cache, and the cached rows of this rank and of all, of which a step that
  /// comes here finds `most_past` for each sequence.
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                               const Limits& limits, index_t most_past) {
    Limits cached = limits;
    cached.max_positions = most_past;
    return limits.max_tokens * 2 * slice.kv_heads.size() * config.head_dim +
           KvCache::floats({slice.kv_heads, 1, 0}, 1, limits.max_sequences, limits.max_positions, config.head_dim) +
           cached_floats(config, slice, ranks, cached) + cached_floats_of_all(config, slice, ranks, cached);
  }
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                               const Limits& limits) {
    return exchange_floats(config, slice, ranks, limits, limits.max_positions);
  }

  explicit AllGatherKv(const TokenContext& context)
      : comm_(context.comm),
        ranks_(context.mesh.outer),
        config_(context.config),
        slice_(context.slice),
        tasks_(context.limits),
        gathered_(context.limits.max_tokens * row_size()),
        staging_({slice_.kv_heads, 1, 0}, 1, context.limits.max_sequences, context.limits.max_positions,
                 config_.head_dim),
        place_(static_cast<std::size_t>(context.limits.max_tokens)),
        counts_(static_cast<std::size_t>(ranks_.size)) {
    sent_past_ = Buffer<float>(cached_floats(config_, slice_, ranks_, context.limits));
    gathered_past_ = Buffer<float>(cached_floats_of_all(config_, slice_, ranks_, context.limits));
  }

  void begin(const Step& step) {
    step_ = step;
    tasks_.plan(step, zigzag_rows(step.rows, ranks_, ranks_.rank), staging_.layout());
    place_zigzag_rows(step.rows, ranks_, place_);
  }

  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    gather_past(worker, cache, layer);
    worker.once([&] {
      gather_new(kv);
      tasks_.aim(staging_, 0);
    });
    const auto gathered = gathered_.matrix(step_.rows, row_size());
    store_rows<B>(worker, step_, gathered, place_, slice_.kv_heads, config_.head_dim, cache, layer);
    store_rows<B>(worker, step_, gathered, place_, slice_.kv_heads, config_.head_dim, staging_, 0);
    const AttentionProblem problem{head_layout(config_, slice_.q_heads, slice_.kv_heads), attention_scale(config_), q,
                                   tasks_.tasks(), tasks_.blocks()};
    Softmax::template attend<B>(worker, problem, out);
  }

 private:
  [[nodiscard]] index_t row_size() const { return 2 * slice_.kv_heads.size() * config_.head_dim; }

  void gather_new(ConstActivations kv) {
    for (index_t r = 0; r < ranks_.size; ++r)
      counts_[static_cast<std::size_t>(r)] = zigzag_rows(step_.rows, ranks_, r).size() * row_size();
    comm_.allgather<float>({kv.data, static_cast<std::size_t>(kv.rows * row_size())},
                           gathered_.span().first(static_cast<std::size_t>(step_.rows * row_size())), counts_);
  }

  /// Brings the cached positions of the step's sequences into the staging cache.
  void gather_past(Worker& worker, const KvCache& cache, index_t layer) {
    index_t past = 0;
    for (const Segment& s : step_.segments) past += s.position;
    if (past == 0) return;  // known to every rank: the first chunk of a prompt sends nothing here
    const Range own_heads = cache.layout().kv_heads;
    for_each_slot(worker, ranks_.rank, [&](const Segment& s, index_t slot, index_t at) {
      float* to = sent_past_.data() + at * 2 * own_heads.size() * config_.head_dim;
      for (index_t h = 0; h < own_heads.size(); ++h) to = cache.load_key(layer, s.sequence, h, slot, to);
      for (index_t h = 0; h < own_heads.size(); ++h) to = cache.load_value(layer, s.sequence, h, slot, to);
    });
    worker.once([&] {
      index_t total = 0;
      for (index_t r = 0; r < ranks_.size; ++r) total += counts_[static_cast<std::size_t>(r)] = past_size(r);
      comm_.allgather<float>(sent_past_.span().first(static_cast<std::size_t>(past_size(ranks_.rank))),
                             gathered_past_.span().first(static_cast<std::size_t>(total)), counts_);
    });
    index_t before = 0;
    for (index_t r = 0; r < ranks_.size; ++r) {
      const CacheLayout theirs = layout_of(r);
      const Range heads{theirs.kv_heads.begin - slice_.kv_heads.begin, theirs.kv_heads.end - slice_.kv_heads.begin};
      for_each_slot(worker, r, [&](const Segment& s, index_t slot, index_t at) {
        const float* from = gathered_past_.data() + before + at * 2 * heads.size() * config_.head_dim;
        const index_t position = theirs.position(s.sequence, slot);
        for (index_t h = heads.begin; h < heads.end; ++h) from = staging_.store_key(0, s.sequence, h, position, from);
        for (index_t h = heads.begin; h < heads.end; ++h) from = staging_.store_value(0, s.sequence, h, position, from);
      });
      before += past_size(r);
    }
  }

  /// Calls f(segment, slot, place) for this worker's share of the slots that rank `r` has cached of the step's
  /// sequences, in the order in which they travel.
  template <class F>
  void for_each_slot(Worker& worker, index_t r, F&& f) const {
    index_t at = 0;
    for (const Segment& s : step_.segments) {
      const index_t slots = layout_of(r).slots(s.sequence, s.position);
      const Range mine = worker.share(slots);
      for (index_t slot = mine.begin; slot < mine.end; ++slot) f(s, slot, at + slot);
      at += slots;
    }
  }

  [[nodiscard]] CacheLayout layout_of(index_t r) const { return Storage::layout(config_, slice_, ranks_.at(r)); }
  /// Floats that rank `r` has cached of the step's sequences.
  [[nodiscard]] index_t past_size(index_t r) const {
    index_t slots = 0;
    for (const Segment& s : step_.segments) slots += layout_of(r).slots(s.sequence, s.position);
    return slots * 2 * layout_of(r).kv_heads.size() * config_.head_dim;
  }
  /// Floats of a layer that a rank's cache can hold, and those of all ranks.
  [[nodiscard]] static index_t cached_floats(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                             const Limits& limits) {
    return KvCache::floats(Storage::layout(config, slice, ranks), 1, limits.max_sequences, limits.max_positions,
                           config.head_dim);
  }
  [[nodiscard]] static index_t cached_floats_of_all(const ModelConfig& config, const WeightSlice& slice,
                                                    const Ranks& ranks, const Limits& limits) {
    index_t all = 0;
    for (index_t r = 0; r < ranks.size; ++r) all += cached_floats(config, slice, ranks.at(r), limits);
    return all;
  }

  Communicator comm_;
  OwnedRanks ranks_;
  ModelConfig config_;
  WeightSlice slice_;
  AttentionTasks tasks_;
  Buffer<float> gathered_;
  KvCache staging_;
  Buffer<float> sent_past_;
  Buffer<float> gathered_past_;
  std::vector<index_t> place_;  ///< row of each step row among the gathered ones
  std::vector<index_t> counts_;
  Step step_;
};

}  // namespace tessera
