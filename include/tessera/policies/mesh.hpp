#pragma once
// A phase policy made of a token split over the outer dimension of the ranks and a feature split over the inner one.

#include <tessera/comm/loopback.hpp>
#include <tessera/policies/feature_split.hpp>
#include <tessera/policies/mesh_shape.hpp>
#include <tessera/policies/row_selection.hpp>
#include <tessera/policies/token_split.hpp>

namespace tessera {

/// `Tokens` runs on the outer dimension of `Shape`, `Features` on the inner one.
template <class TokenSplit, class FeatureSplit, class Shape>
class Mesh {
 public:
  using Tokens = TokenSplit;
  using Features = FeatureSplit;
  using Cache = typename Tokens::Cache;

  static void check(const ModelConfig& config, const Ranks& ranks) { Features::check(config, inner(ranks)); }

  [[nodiscard]] static constexpr Plan plan(const ModelConfig& config, const Ranks& ranks, index_t rows) {
    const RowSet computed = Tokens::rows(rows, outer(ranks));
    WeightSlice slice = Features::slice(config, inner(ranks));
    slice.vocab = vocab_part(config.vocab, ranks);  // selected rows are on every rank: all of them share lm_head
    return {Features::kept(computed, inner(ranks)), computed, slice};
  }
  [[nodiscard]] static constexpr Plan plan(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    return plan(config, ranks, step.rows);
  }
  [[nodiscard]] static constexpr CacheLayout layout(const ModelConfig& config, const Ranks& ranks) {
    return Tokens::layout(config, Features::slice(config, inner(ranks)), mesh(ranks));
  }
  /// The widest slice of the weights that a step uses.
  [[nodiscard]] static constexpr WeightSlice widest(const ModelConfig& config, const Ranks& ranks) {
    return plan(config, ranks, 1).slice;
  }
  /// The most rows that a rank computes in any step within the limits.
  [[nodiscard]] static constexpr index_t max_rows(const ModelConfig& config, const Ranks& ranks, const Limits& limits) {
    // Chunks are rounded one by one, so a shorter step may give a rank a few rows more than its part of the longest.
    return std::min(limits.max_tokens, plan(config, ranks, limits.max_tokens).computed.size() + 4);
  }

  /// What a rank asks of its communicators in a layer, for a softmax whose states merge.
  [[nodiscard]] static Traffic traffic(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    Traffic traffic = Features::traffic(config, inner(ranks), plan(config, ranks, step.rows).computed.size());
    return traffic += Tokens::traffic(config, Features::slice(config, inner(ranks)), mesh(ranks), step);
  }
  /// What it asks once in a step, to hand the wanted rows to all.
  [[nodiscard]] static Traffic selection_traffic(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    return Traffic{}.add(Collective::allgather, replicated ? 0 : 1,
                         replicated ? 0 : static_cast<index_t>(step.wanted.size()) * config.hidden, ranks.size);
  }
  /// Floats of the buffers that its moves touch, where one row of each sequence is wanted.
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const Ranks& ranks, const Limits& limits) {
    return Features::exchange_floats(config, inner(ranks), max_rows(config, ranks, limits)) +
           Tokens::exchange_floats(config, Features::slice(config, inner(ranks)), mesh(ranks), limits) +
           RowSelection::exchange_floats(limits.max_sequences, config.hidden);
  }
  /// Query heads times keys that a rank's attention visits in a layer.
  [[nodiscard]] static index_t pairs(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    return Tokens::pairs(config, Features::slice(config, inner(ranks)), mesh(ranks), step);
  }

  explicit Mesh(const ShardingContext& context)
      : context_(context),
        all_(context.comm),
        self_(Loopback{}),
        features_(context_.comm.split(static_cast<int>(outer(ranks()).rank), static_cast<int>(inner(ranks()).rank)),
                  context_.config, inner(ranks()), max_rows(context_.config, ranks(), context_.limits),
                  context_.overlap && !Tokens::splits),
        tokens_(TokenContext{
            context_.comm,
            context_.comm.split(static_cast<int>(inner(ranks()).rank), static_cast<int>(outer(ranks()).rank)),
            mesh(ranks()), context_.config, context_.limits, Features::slice(context_.config, inner(ranks())),
            context_.overlap}),
        selection_(context_.limits.max_tokens, context_.config.hidden, replicated ? 1 : all_.size()) {}

  template <class F>
  void visit(const Step& step, F&& f) {
    begin(step);
    f(*this);
  }

  void begin(const Step& step) {
    step_ = step;
    features_.begin(Tokens::rows(step.rows, outer(ranks())), step.is_micro_batch);
    tokens_.begin(step);
  }
  [[nodiscard]] ConstActivations gather(Worker& worker, ConstActivations x) { return features_.gather(worker, x); }
  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    tokens_.template attend<Softmax, B>(worker, q, kv, cache, layer, out);
  }
  void start_combine(Worker& worker, Activations partial) { features_.start_combine(worker, partial); }
  template <SimdBackend B>
  void finish_combine(Worker& worker, Activations partial, Activations x) {
    features_.template finish_combine<B>(worker, partial, x);
  }
  [[nodiscard]] ConstActivations select(Worker& worker, ConstActivations x) {
    worker.once([&] {
      selected_ = selection_.select(replicated ? self_ : all_, x, step_.wanted, [&](index_t r) { return shown_by(r); });
    });
    return selected_;
  }

 private:
  static constexpr bool replicated = !Tokens::splits && !Features::scatters;

  [[nodiscard]] static constexpr Ranks outer(const Ranks& r) { return mesh(r).outer; }
  [[nodiscard]] static constexpr Ranks inner(const Ranks& r) { return mesh(r).inner; }
  [[nodiscard]] static constexpr MeshRanks mesh(const Ranks& r) { return mesh_of<Shape>(r); }
  [[nodiscard]] Ranks ranks() const { return context_.ranks(); }

  /// Rows that rank `r` shows when rows are selected: of ranks that keep the same rows only the first shows them.
  [[nodiscard]] RowSet shown_by(index_t r) const {
    const Ranks there = ranks().at(r);
    if (!Features::scatters && inner(there).rank != 0) return {};
    return plan(context_.config, there, step_.rows).kept;
  }

  ShardingContext context_;
  Communicator all_;
  Communicator self_;
  Features features_;
  Tokens tokens_;
  RowSelection selection_;
  ConstActivations selected_;
  Step step_;
};

}  // namespace tessera
