#pragma once
// Queries travel to keys: in a later chunk of a long prompt a few queries and their results are less than the cache.

#include <tessera/kernels/softmax_states.hpp>
#include <tessera/policies/attention_tasks.hpp>
#include <tessera/policies/stored_rows.hpp>
#include <tessera/policies/token_split.hpp>

namespace tessera {

/// One allgather brings the new queries, keys and values of all ranks to every rank; it stores what its stripe owns and
/// attends to that stripe, cached keys and new ones, with the queries of all. One deal takes the states (m, l, o)
/// to the ranks of the rows, which merge them in rank order. "Pass-Q" of arXiv:2411.01783; for a softmax whose states
/// merge, on a cache striped by position.
class PassQueries {
 public:
  /// Whether keys and values of the cached positions are more than queries and their states. Arithmetic of the step
  /// alone: the same on every rank, and in every run.
  [[nodiscard]] static constexpr bool sends_less(const ModelConfig& config, const WeightSlice& slice,
                                                 const Step& step) {
    return step.rows * slice.q_heads.size() * (2 * config.head_dim + 2) <
           past_of(step) * slice.kv_heads.size() * 2 * config.head_dim;
  }
  /// Cached positions of a sequence for which keys travel all the same, in some step within the limits.
  [[nodiscard]] static constexpr index_t most_past(const ModelConfig& config, const WeightSlice& slice,
                                                   const Limits& limits) {
    const index_t keys = slice.kv_heads.size() * config.head_dim;
    const index_t queries = limits.max_tokens * slice.q_heads.size() * (config.head_dim + 1);
    return keys == 0 ? limits.max_positions : std::min(limits.max_positions, queries / keys);
  }
  [[nodiscard]] static Traffic traffic(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                       const Step& step) {
    return Traffic{}
        .add(Collective::allgather, 1, step.rows * qkv_floats(config, slice), ranks.size)
        .add(Collective::deal, 1, step.rows * slice.q_heads.size() * (config.head_dim + 2), ranks.size);
  }
  /// The own rows, those of all, and their queries in order; all states, here and on their way; states of the own rows.
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                               const Limits& limits) {
    const index_t rows = most_rows(config, slice, limits);
    return (own_rows(ranks, rows) + rows) * qkv_floats(config, slice) + rows * slice.q_heads.size() * config.head_dim +
           (2 * rows + own_rows(ranks, rows) * ranks.size) * slice.q_heads.size() * (config.head_dim + 2);
  }

  explicit PassQueries(const TokenContext& context)
      : comm_(context.comm),
        ranks_(context.mesh.outer),
        config_(context.config),
        slice_(context.slice),
        tasks_(context.limits),
        place_(static_cast<std::size_t>(context.limits.max_tokens)),
        parts_(static_cast<std::size_t>(ranks_.size)),
        counts_(parts_.size()) {
    const index_t rows = most_rows(config_, slice_, context.limits);
    sent_ = Buffer<float>(own_rows(ranks_, rows) * qkv_floats(config_, slice_));
    gathered_ = Buffer<float>(rows * qkv_floats(config_, slice_));
    q_ = Buffer<float>(rows * q_size());
    states_ = Buffer<float>(rows * state_size());
    sent_states_ = Buffer<float>(states_.size());
    received_states_ = Buffer<float>(own_rows(ranks_, rows) * ranks_.size * state_size());
  }

  /// Before a step for which sends_less holds.
  void begin(const Step& step, const CacheLayout& layout) {
    step_ = step;
    tasks_.plan(step, all_rows(step.rows), layout);
    place_zigzag_rows(step.rows, ranks_, place_);
  }

  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    pack(worker, q, kv);
    worker.once([&] {
      gather(q.rows);
      tasks_.aim(cache, layer);
    });
    const ConstActivations all = gathered_.matrix(step_.rows, row_size());
    const Range share = worker.share(step_.rows);
    for (index_t t = share.begin; t < share.end; ++t)
      std::copy_n(all.row(place_[static_cast<std::size_t>(t)]), q_size(), q_.data() + t * q_size());
    store_rows<B>(worker, step_, all.col_range({q_size(), row_size()}), place_, slice_.kv_heads, config_.head_dim,
                  cache, layer);
    const SoftmaxStates states = states_at(states_.data(), step_.rows);
    reset<B>(worker, states);
    Softmax::template attend_more<B>(worker,
                                     {head_layout(config_, slice_.q_heads, slice_.kv_heads), attention_scale(config_),
                                      q_.matrix(step_.rows, q_size()), tasks_.tasks(), tasks_.blocks()},
                                     states);
    worker.once([&] { send_back<B>(states); });
    merge_normalized<B>(worker, parts_, out);
  }

 private:
  /// Rows of a step for which sends_less may hold within the limits.
  [[nodiscard]] static constexpr index_t most_rows(const ModelConfig& config, const WeightSlice& slice,
                                                   const Limits& limits) {
    if (slice.q_heads.empty()) return limits.max_tokens;
    const index_t cached = limits.max_sequences * limits.max_positions * slice.kv_heads.size() * config.head_dim;
    return std::min(limits.max_tokens, cached / (slice.q_heads.size() * (config.head_dim + 1)) + 1);
  }
  /// Rows of one rank in a step of up to so many.
  [[nodiscard]] static index_t own_rows(const Ranks& ranks, index_t rows) {
    return std::min(rows, zigzag_rows(rows, ranks, ranks.rank).size() + 4);
  }
  [[nodiscard]] index_t row_size() const { return qkv_floats(config_, slice_); }
  [[nodiscard]] index_t q_size() const { return slice_.q_heads.size() * config_.head_dim; }
  [[nodiscard]] index_t state_size() const { return slice_.q_heads.size() * (config_.head_dim + 2); }
  [[nodiscard]] RowSet rows_of(index_t r) const { return zigzag_rows(step_.rows, ranks_, r); }

  [[nodiscard]] SoftmaxStates states_at(float* data, index_t rows) const {
    const index_t heads = slice_.q_heads.size();
    return {{data, rows, heads}, {data + rows * heads, rows, heads}, {data + 2 * rows * heads, rows, q_size()}};
  }

  void pack(Worker& worker, ConstActivations q, ConstActivations kv) {
    const Range mine = worker.share(q.rows);
    for (index_t i = mine.begin; i < mine.end; ++i)
      std::copy_n(kv.row(i), kv.cols, std::copy_n(q.row(i), q.cols, sent_.data() + i * row_size()));
    worker.barrier();
  }
  void gather(index_t mine) {
    for (index_t r = 0; r < ranks_.size; ++r) counts_[static_cast<std::size_t>(r)] = rows_of(r).size() * row_size();
    comm_.allgather<float>(sent_.span().first(static_cast<std::size_t>(mine * row_size())),
                           gathered_.span().first(static_cast<std::size_t>(step_.rows * row_size())), counts_);
  }
  /// States of each rank's rows to that rank; those of the own rows, one part from every stripe.
  template <SimdBackend B>
  void send_back(const SoftmaxStates& states) {
    const index_t mine = rows_of(ranks_.rank).size();
    float* to = sent_states_.data();
    float* from = received_states_.data();
    for (std::size_t r = 0; r < parts_.size(); ++r) {
      const RowSet rows = rows_of(static_cast<index_t>(r));
      const SoftmaxStates part = states_at(to, rows.size());
      for (index_t i = 0; i < rows.size(); ++i) {
        copy_floats<B>(states.maximum.row(rows[i]), states.maximum.cols, part.maximum.row(i));
        copy_floats<B>(states.sum.row(rows[i]), states.sum.cols, part.sum.row(i));
        copy_floats<B>(states.output.row(rows[i]), states.output.cols, part.output.row(i));
      }
      to += counts_[r] = rows.size() * state_size();
      parts_[r] = states_at(from, mine);
      from += mine * state_size();
    }
    comm_.deal<float>({sent_states_.data(), to}, counts_, {received_states_.data(), from});
  }

  Communicator comm_;
  OwnedRanks ranks_;
  ModelConfig config_;
  WeightSlice slice_;
  AttentionTasks tasks_;
  Buffer<float> sent_;
  Buffer<float> gathered_;
  Buffer<float> q_;
  Buffer<float> states_;
  Buffer<float> sent_states_;
  Buffer<float> received_states_;
  std::vector<index_t> place_;  ///< row of each step row among the gathered ones
  std::vector<SoftmaxStates> parts_;
  std::vector<index_t> counts_;
  Step step_;
};

/// Keys travel as `KvExchange` has it, or queries do: whichever sends less in the step.
template <class KvExchange>
class KeysOrQueries {
 public:
  using Cache = typename KvExchange::Cache;
  static_assert(std::is_same_v<Cache, CacheByPosition>, "queries travel to a cache that is striped by position");
  static constexpr std::string_view strategy = KvExchange::strategy;

  /// Of a layer, for a softmax whose states merge; with any other keys travel always.
  [[nodiscard]] static Traffic traffic(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                       const Step& step) {
    return PassQueries::sends_less(config, slice, step) ? PassQueries::traffic(config, slice, ranks, step)
                                                        : KvExchange::traffic(config, slice, ranks, step);
  }
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                               const Limits& limits) {
    if (!limits.states_merge) return KvExchange::exchange_floats(config, slice, ranks, limits, limits.max_positions);
    return KvExchange::exchange_floats(config, slice, ranks, limits_of_keys(config, slice, limits),
                                       PassQueries::most_past(config, slice, limits)) +
           PassQueries::exchange_floats(config, slice, ranks, limits);
  }

  explicit KeysOrQueries(const TokenContext& context)
      : config_(context.config),
        slice_(context.slice),
        layout_(Cache::layout(context.config, context.slice, context.mesh.outer)),
        keys_(of_keys(context)),
        queries_(context),
        states_merge_(context.limits.states_merge) {}

  void begin(const Step& step) {
    passes_queries_ = PassQueries::sends_less(config_, slice_, step);
    if (passes_queries_) queries_.begin(step, layout_);
    if (!passes_queries_ || !states_merge_) keys_.begin(step);
  }
  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    if constexpr (MergeableSoftmax<Softmax>) {
      if (passes_queries_) return queries_.template attend<Softmax, B>(worker, q, kv, cache, layer, out);
    }
    keys_.template attend<Softmax, B>(worker, q, kv, cache, layer, out);
  }

 private:
  /// Positions of a sequence that keys travel for in a step.
  [[nodiscard]] static Limits limits_of_keys(const ModelConfig& config, const WeightSlice& slice, Limits limits) {
    if (limits.states_merge)
      limits.max_positions =
          std::min(limits.max_positions, PassQueries::most_past(config, slice, limits) + limits.max_tokens);
    return limits;
  }
  [[nodiscard]] static TokenContext of_keys(TokenContext context) {
    context.limits = limits_of_keys(context.config, context.slice, context.limits);
    return context;
  }

  ModelConfig config_;
  WeightSlice slice_;
  CacheLayout layout_;
  KvExchange keys_;
  PassQueries queries_;
  bool states_merge_;
  bool passes_queries_ = false;
};

}  // namespace tessera
