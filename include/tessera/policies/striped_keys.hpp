#pragma once
// Heads over ranks in attention, positions over ranks in the cache: keys are stored where their position belongs, and
// brought back to their heads when a later chunk of a prompt needs them.

#include <vector>

#include <tessera/kernels/rows.hpp>
#include <tessera/policies/attention_tasks.hpp>
#include <tessera/policies/stored_rows.hpp>
#include <tessera/policies/token_split.hpp>

namespace tessera {

/// Every rank computes all rows for its heads, as WholeSequence does; the cache is striped by position, so that Helix
/// can decode on it. One all-to-all sends the new keys and values to their stripes; one more, in later chunks, brings
/// the cached ones to their heads. Attention reads a staging cache of one layer.
class StripedKeys {
 public:
  static constexpr bool splits = false;
  using Cache = CacheByPosition;

  [[nodiscard]] static constexpr RowSet rows(index_t n, const Ranks&) { return all_rows(n); }
  [[nodiscard]] static constexpr CacheLayout layout(const ModelConfig& config, const WeightSlice&,
                                                    const MeshRanks& mesh) {
    return {{0, config.kv_heads}, mesh.all.size, mesh.all.rank};
  }

  [[nodiscard]] static Traffic traffic(const ModelConfig& config, const WeightSlice&, const MeshRanks& mesh,
                                       const Step& step) {
    const index_t head = 2 * config.head_dim;
    Traffic traffic;
    traffic.add(Collective::alltoall, 1, step.rows * provided(config, mesh.all).size() * head, mesh.all.size);
    if (past_of(step) == 0) return traffic;
    const CacheLayout mine = layout(config, {}, mesh);
    index_t slots = 0;
    index_t heads = 0;
    for (const Segment& s : step.segments) slots += mine.slots(s.sequence, s.position);
    for (index_t r = 0; r < mesh.all.size; ++r) heads += slice_by_heads(config, mesh.all.at(r)).kv_heads.size();
    return traffic.add(Collective::alltoall, 1, slots * heads * head, mesh.all.size);
  }
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const WeightSlice& slice,
                                               const MeshRanks& mesh, const Limits& limits) {
    return KvCache::floats({slice.kv_heads, 1, 0}, 1, limits.max_sequences, limits.max_positions, config.head_dim) +
           sent_floats(config, mesh.all, limits) + received_floats(config, mesh.all, limits);
  }
  [[nodiscard]] static constexpr index_t pairs(const ModelConfig&, const WeightSlice& slice, const MeshRanks&,
                                               const Step& step) {
    return attention_pairs(step, all_rows(step.rows), slice.q_heads.size());
  }

  explicit StripedKeys(const TokenContext& context)
      : comm_(context.all),
        config_(context.config),
        tasks_(context.limits),
        staging_({context.slice.kv_heads, 1, 0}, 1, context.limits.max_sequences, context.limits.max_positions,
                 config_.head_dim),
        send_counts_(static_cast<std::size_t>(comm_.size())),
        receive_counts_(static_cast<std::size_t>(comm_.size())) {
    for (index_t r = 0; r < comm_.size(); ++r) {
      slices_.push_back(slice_by_heads(config_, context.mesh.all.at(r)));
      provided_.push_back(provided(config_, context.mesh.all.at(r)));
    }
    sent_ = Buffer<float>(sent_floats(config_, context.mesh.all, context.limits));
    received_ = Buffer<float>(received_floats(config_, context.mesh.all, context.limits));
  }

  void begin(const Step& step) {
    step_ = step;
    tasks_.plan(step, all_rows(step.rows), staging_.layout());
  }

  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    worker.once([&] {
      fetch_past<B>(cache, layer);
      send_new<B>(kv, cache, layer);
      tasks_.aim(staging_, 0);
    });
    store_rows<B>(worker, step_, kv, {}, mine().kv_heads, config_.head_dim, staging_, 0);
    const AttentionProblem problem{head_layout(config_, mine().q_heads, mine().kv_heads), attention_scale(config_), q,
                                   tasks_.tasks(), tasks_.blocks()};
    Softmax::template attend<B>(worker, problem, out);
  }

 private:
  /// New rows of the own heads, or the own stripe of everybody's heads: keys and values.
  [[nodiscard]] static index_t sent_floats(const ModelConfig& config, const Ranks& ranks, const Limits& limits) {
    index_t heads = 0;
    for (index_t r = 0; r < ranks.size; ++r) heads += slice_by_heads(config, ranks.at(r)).kv_heads.size();
    const index_t slots = limits.max_sequences * CacheLayout{{}, ranks.size, 0}.capacity(limits.max_positions);
    return 2 * config.head_dim *
           std::max(limits.max_tokens * slice_by_heads(config, ranks).kv_heads.size(), slots * heads);
  }
  /// New rows of all heads, of the own stripe at most; or all positions of the own heads.
  [[nodiscard]] static index_t received_floats(const ModelConfig& config, const Ranks& ranks, const Limits& limits) {
    const index_t positions = limits.max_sequences * limits.max_positions;
    return 2 * config.head_dim *
           std::max(limits.max_tokens * config.kv_heads, positions * slice_by_heads(config, ranks).kv_heads.size());
  }
  [[nodiscard]] const WeightSlice& slice_of(index_t r) const { return slices_[static_cast<std::size_t>(r)]; }
  [[nodiscard]] const WeightSlice& mine() const { return slice_of(comm_.rank()); }
  [[nodiscard]] CacheLayout stripe(index_t r) const { return {{0, config_.kv_heads}, comm_.size(), r}; }

  /// KV heads that a rank sends to the stripes: a head that several ranks hold comes from the first of them.
  [[nodiscard]] static constexpr Range provided(const ModelConfig& config, const Ranks& ranks) {
    Range held = slice_by_heads(config, ranks).kv_heads;
    for (index_t r = 0; r < ranks.rank; ++r)
      held.begin = std::max(held.begin, slice_by_heads(config, ranks.at(r)).kv_heads.end);
    return {held.begin, std::max(held.begin, held.end)};
  }
  [[nodiscard]] Range provided(index_t r) const { return provided_[static_cast<std::size_t>(r)]; }

  /// New rows, of the heads that this rank provides, to the stripes that own their positions.
  template <SimdBackend B>
  void send_new(ConstActivations kv, KvCache& cache, index_t layer) {
    const index_t head_dim = config_.head_dim;
    const Range heads = provided(comm_.rank());
    float* to = sent_.data();
    for (index_t r = 0; r < comm_.size(); ++r) {
      const float* const begin = to;
      each_new(r, [&](index_t row, index_t, index_t) {
        for (index_t h = heads.begin; h < heads.end; ++h) {
          const float* key = kv.row(row) + (h - mine().kv_heads.begin) * head_dim;
          to = copy_floats<B>(key, head_dim, to);
          to = copy_floats<B>(key + kv.cols / 2, head_dim, to);
        }
      });
      send_counts_[static_cast<std::size_t>(r)] = to - begin;
    }
    const index_t owned = new_rows(comm_.rank());
    for (index_t r = 0; r < comm_.size(); ++r)
      receive_counts_[static_cast<std::size_t>(r)] = owned * provided(r).size() * 2 * head_dim;
    const float* from = exchange(to);
    for (index_t r = 0; r < comm_.size(); ++r)
      each_new(comm_.rank(), [&](index_t, index_t sequence, index_t position) {
        from = store<B>(from, provided(r), cache, layer, sequence, cache.layout().slot(position));
      });
  }

  /// The cached positions of the step's sequences, of this rank's heads, into the staging cache.
  template <SimdBackend B>
  void fetch_past(const KvCache& cache, index_t layer) {
    index_t past = 0;
    for (const Segment& s : step_.segments) past += s.position;
    if (past == 0) return;  // known to every rank
    const index_t head_dim = config_.head_dim;
    float* to = sent_.data();
    for (index_t r = 0; r < comm_.size(); ++r) {
      const float* const begin = to;
      const Range heads = slice_of(r).kv_heads;
      each_cached(comm_.rank(), [&](index_t sequence, index_t slot) {
        for (index_t h = heads.begin; h < heads.end; ++h) {
          to = load_key<B>(cache, layer, sequence, h, slot, to);
          to = load_value<B>(cache, layer, sequence, h, slot, to);
        }
      });
      send_counts_[static_cast<std::size_t>(r)] = to - begin;
      receive_counts_[static_cast<std::size_t>(r)] = cached_rows(r) * mine().kv_heads.size() * 2 * head_dim;
    }
    const float* from = exchange(to);
    const Range all{0, mine().kv_heads.size()};
    for (index_t r = 0; r < comm_.size(); ++r)
      each_cached(r, [&](index_t sequence, index_t slot) {
        from = store<B>(from, all, staging_, 0, sequence, stripe(r).position(sequence, slot));
      });
  }

  /// Sends what lies before `end`, as counted; returns where what has come begins.
  const float* exchange(const float* end) {
    index_t coming = 0;
    for (const index_t count : receive_counts_) coming += count;
    comm_.alltoall<float>({sent_.data(), end}, send_counts_, received_.span().first(static_cast<std::size_t>(coming)),
                          receive_counts_);
    return received_.data();
  }
  template <SimdBackend B>
  const float* store(const float* from, Range heads, const KvCache& cache, index_t layer, index_t sequence,
                     index_t slot) const {
    for (index_t h = heads.begin; h < heads.end; ++h) {
      from = store_key<B>(cache, layer, sequence, h, slot, from);
      from = store_value<B>(cache, layer, sequence, h, slot, from);
    }
    return from;
  }

  /// Calls f(row, sequence, position) for the new rows that stripe `r` owns, and looks at no others: over all stripes,
  /// once at each row.
  template <class F>
  void each_new(index_t r, F&& f) const {
    const CacheLayout theirs = stripe(r);
    for (const Segment& s : step_.segments) {
      const index_t end = theirs.slots(s.sequence, s.position + s.count);
      for (index_t slot = theirs.slots(s.sequence, s.position); slot < end; ++slot) {
        const index_t position = theirs.position(s.sequence, slot);
        f(s.row + position - s.position, s.sequence, position);
      }
    }
  }
  [[nodiscard]] index_t new_rows(index_t r) const {
    index_t rows = 0;
    for (const Segment& s : step_.segments)
      rows += stripe(r).slots(s.sequence, s.position + s.count) - stripe(r).slots(s.sequence, s.position);
    return rows;
  }
  [[nodiscard]] index_t cached_rows(index_t r) const {
    index_t rows = 0;
    for (const Segment& s : step_.segments) rows += stripe(r).slots(s.sequence, s.position);
    return rows;
  }
  /// Calls f(sequence, slot) for what stripe `r` has cached of the step's sequences.
  template <class F>
  void each_cached(index_t r, F&& f) const {
    for (const Segment& s : step_.segments)
      for (index_t slot = 0; slot < stripe(r).slots(s.sequence, s.position); ++slot) f(s.sequence, slot);
  }

  Communicator comm_;
  ModelConfig config_;
  AttentionTasks tasks_;
  KvCache staging_;
  std::vector<WeightSlice> slices_;  ///< of every rank
  std::vector<Range> provided_;      ///< by every rank
  Buffer<float> sent_;
  Buffer<float> received_;
  std::vector<index_t> send_counts_;
  std::vector<index_t> receive_counts_;
  Step step_;
};

}  // namespace tessera
