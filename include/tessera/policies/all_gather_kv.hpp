#pragma once
// Keys travel to queries: every rank gathers the new K and V of all ranks, and the cached stripes where there are some.

#include <tessera/policies/token_split.hpp>

namespace tessera {

/// One allgather of the new rows in a layer, and one of the cached stripes in a later chunk of a prompt. What a layer
/// gathers lives in a staging cache of one layer, in position order.
class AllGatherKv {
 public:
  explicit AllGatherKv(const TokenContext& context)
      : comm_(context.comm),
        ranks_(context.ranks),
        shares_(context.ranks.shares.begin(), context.ranks.shares.end()),
        config_(context.config),
        slice_(context.slice),
        tasks_(context.limits),
        gathered_(context.limits.max_tokens * row_size()),
        staging_({slice_.kv_heads, 1, 0}, 1, context.limits.max_sequences, context.limits.max_positions,
                 config_.head_dim),
        place_(static_cast<std::size_t>(context.limits.max_tokens)),
        counts_(static_cast<std::size_t>(ranks_.size)) {
    ranks_.shares = shares_;
    const CacheLayout stripe{slice_.kv_heads, ranks_.size, 0};
    const index_t stripe_size =
        context.limits.max_sequences * stripe.capacity(context.limits.max_positions) * row_size();
    sent_stripe_ = Buffer<float>(stripe_size);
    gathered_stripes_ = Buffer<float>(stripe_size * ranks_.size);
  }

  void begin(const Step& step) {
    step_ = step;
    tasks_.plan(step, zigzag_rows(step.rows, ranks_, ranks_.rank), staging_.layout());
    index_t before = 0;
    for (index_t r = 0; r < ranks_.size; ++r) {
      const RowSet rows = zigzag_rows(step.rows, ranks_, r);
      for (index_t i = 0; i < rows.size(); ++i) place_[static_cast<std::size_t>(rows[i])] = before + i;
      before += rows.size();
    }
  }

  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    gather_past(worker, cache, layer);
    worker.once([&] {
      gather_new(kv);
      tasks_.aim(staging_, 0);
    });
    const auto gathered = gathered_.matrix(step_.rows, row_size());
    store_rows(worker, step_, gathered, place_, config_.head_dim, cache, layer);
    store_rows(worker, step_, gathered, place_, config_.head_dim, staging_, 0);
    const AttentionProblem problem{head_layout(config_, slice_.q_heads, slice_.kv_heads), attention_scale(config_), q,
                                   tasks_.tasks()};
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
    for_each_slot(worker, ranks_.rank, [&](const Segment& s, index_t slot, index_t at) {
      copy_slot(cache, layer, s, slot, [&](const float* from, index_t i) {
        std::copy_n(from, config_.head_dim, sent_stripe_.data() + at * row_size() + i * config_.head_dim);
      });
    });
    worker.once([&] {
      index_t total = 0;
      for (index_t r = 0; r < ranks_.size; ++r)
        total += counts_[static_cast<std::size_t>(r)] = slots_of(r) * row_size();
      comm_.allgather<float>(sent_stripe_.span().first(static_cast<std::size_t>(slots_of(ranks_.rank) * row_size())),
                             gathered_stripes_.span().first(static_cast<std::size_t>(total)), counts_);
    });
    index_t before = 0;
    for (index_t r = 0; r < ranks_.size; ++r) {
      const CacheLayout stripe{slice_.kv_heads, ranks_.size, r};
      for_each_slot(worker, r, [&](const Segment& s, index_t slot, index_t at) {
        const float* from = gathered_stripes_.data() + (before + at) * row_size();
        const index_t position = stripe.position(s.sequence, slot);
        copy_slot(staging_, 0, s, position,
                  [&](float* to, index_t i) { std::copy_n(from + i * config_.head_dim, config_.head_dim, to); });
      });
      before += slots_of(r);
    }
  }

  /// Calls f(segment, slot, place) for this worker's share of the cached slots of stripe `r`, in the order in which the
  /// stripe travels.
  template <class F>
  void for_each_slot(Worker& worker, index_t r, F&& f) const {
    const CacheLayout stripe{slice_.kv_heads, ranks_.size, r};
    index_t at = 0;
    for (const Segment& s : step_.segments) {
      const index_t slots = stripe.slots(s.sequence, s.position);
      const Range mine = worker.share(slots);
      for (index_t slot = mine.begin; slot < mine.end; ++slot) f(s, slot, at + slot);
      at += slots;
    }
  }

  /// Calls f(pointer, i) for every key head, then every value head, of a slot.
  template <class F>
  void copy_slot(const KvCache& cache, index_t layer, const Segment& s, index_t slot, F&& f) const {
    const index_t heads = slice_.kv_heads.size();
    for (index_t h = 0; h < heads; ++h) f(cache.key(layer, s.sequence, h, slot), h);
    for (index_t h = 0; h < heads; ++h) f(cache.value(layer, s.sequence, h, slot), heads + h);
  }

  [[nodiscard]] index_t slots_of(index_t r) const {
    const CacheLayout stripe{slice_.kv_heads, ranks_.size, r};
    index_t slots = 0;
    for (const Segment& s : step_.segments) slots += stripe.slots(s.sequence, s.position);
    return slots;
  }

  Communicator comm_;
  Ranks ranks_;
  std::vector<double> shares_;
  ModelConfig config_;
  WeightSlice slice_;
  AttentionTasks tasks_;
  Buffer<float> gathered_;
  KvCache staging_;
  Buffer<float> sent_stripe_;
  Buffer<float> gathered_stripes_;
  std::vector<index_t> place_;  ///< row of each step row among the gathered ones
  std::vector<index_t> counts_;
  Step step_;
};

}  // namespace tessera
