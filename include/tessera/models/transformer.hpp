#pragma once
// Transformer<Sharding, Softmax, Backend>: a decoder-only model on the ranks of a communicator.

#include <array>
#include <optional>
#include <span>
#include <type_traits>

#include <tessera/comm/recording.hpp>
#include <tessera/kernels/rows.hpp>
#include <tessera/models/held_weights.hpp>
#include <tessera/models/micro_batches.hpp>
#include <tessera/models/request.hpp>
#include <tessera/models/weights.hpp>
#include <tessera/nn/decoder_layer.hpp>
#include <tessera/policies/decode_choices.hpp>
#include <tessera/policies/hybrid.hpp>
#include <tessera/policies/online_softmax.hpp>
#include <tessera/policies/standard_softmax.hpp>

namespace tessera {

/// In a trace: reading embeddings.
inline constexpr TraceName trace_embed{"embed", TraceKind::layer};
/// In a trace: logits.
inline constexpr TraceName trace_head{"lm_head", TraceKind::layer};

/// A model whose three slots are types and whose shape is a value. Every rank of the communicator makes it with the
/// same arguments and calls the same steps. Moves are cheap; there is no copy. Not for several threads at a time.
template <class Sharding, class Softmax = OnlineSoftmax, class Backend = XsimdBackend<>>
class Transformer {
  static_assert(ShardingPolicy<Sharding>,
                "Transformer<Sharding, Softmax, Backend>: the first slot needs a ShardingPolicy such as HeadWise or "
                "Sequence<>; policies/sharding.hpp says what one must have");
  static_assert(
      SoftmaxPolicy<Softmax>,
      "Transformer<Sharding, Softmax, Backend>: the second slot needs a SoftmaxPolicy such as OnlineSoftmax or "
      "StandardSoftmax; policies/softmax.hpp says what one must have");
  static_assert(SimdBackend<Backend>,
                "Transformer<Sharding, Softmax, Backend>: the third slot needs a SimdBackend such as XsimdBackend<> or "
                "ScalarBackend; simd/backend.hpp says what one must have");

 public:
  /// Takes all memory that steps within the limits need. Throws Error when the policy cannot use so many ranks, or the
  /// limits cannot hold.
  Transformer(Communicator comm, ModelConfig config, ModelWeights weights, TransformerOptions options);

  [[nodiscard]] const ModelConfig& config() const { return context_.config; }
  [[nodiscard]] const Limits& limits() const { return context_.limits; }
  [[nodiscard]] Communicator& comm() { return context_.comm; }
  [[nodiscard]] Ranks ranks() const { return context_.ranks(); }
  [[nodiscard]] int threads() const { return team_.threads(); }

  /// Positions of a sequence that the cache holds.
  [[nodiscard]] index_t length(index_t sequence) const { return lengths_.at(static_cast<std::size_t>(sequence)); }

  /// Cuts a sequence back to its first `length` positions; 0 frees it for another.
  void truncate(index_t sequence, index_t length) {
    require(0 <= sequence && sequence < limits().max_sequences, "truncate: expected a sequence below ",
            limits().max_sequences, ", found ", sequence);
    index_t& now = lengths_[static_cast<std::size_t>(sequence)];
    require(0 <= length && length <= now, "truncate: sequence ", sequence, " holds ", now,
            " positions, it cannot be cut to ", length);
    now = length;
  }

  /// Runs the chunks through the model and appends them to their sequences. The result is valid until the next step.
  /// Throws Error, and changes nothing, for a token that the vocabulary lacks or more rows or positions than planned.
  Logits step(std::span<const Chunk> chunks);

  /// Bytes of this rank's activations, of its KV cache, and of its copies of weights; other weights are mapped and
  /// shared.
  [[nodiscard]] std::size_t activation_bytes() const { return workspace_.bytes() + final_.bytes(); }
  [[nodiscard]] std::size_t cache_bytes() const { return cache_.bytes(); }
  [[nodiscard]] std::size_t copied_bytes() const { return weights_.bytes(); }

 private:
  /// One micro-batch of a step: who runs it, and which rows of the step it has.
  template <class Phase>
  struct Part {
    Phase* phase;
    Step step;
    index_t first_row = 0;
  };

  void run(const Step& step) {
    if constexpr (HidesSums<Sharding>) {
      if (second_ && micro_batches_.cut(step)) {
        const Step first = micro_batches_[0], second = micro_batches_[1];
        sharding_.visit(first, [&]<class Phase>(Phase& phase) {
          second_->visit(second, [&](auto& other) {  // neither part is a step of decode: both have the same phase
            if constexpr (std::is_same_v<decltype(other), Phase&>)
              run_parts(std::array{Part<Phase>{&phase, first, 0}, Part<Phase>{&other, second, first.rows}});
          });
        });
        return;
      }
    }
    sharding_.visit(step, [&]<class Phase>(Phase& phase) { run_parts(std::array{Part<Phase>{&phase, step}}); });
  }
  template <class Phase, std::size_t count>
  void run_parts(const std::array<Part<Phase>, count>& parts) {
    team_.run([&](Worker& worker) { forward(worker, parts); });
  }

  [[nodiscard]] static Communicator traced(Communicator comm, Trace* trace) {
    return trace == nullptr ? std::move(comm) : record(comm, &trace->lane(0)).communicator;
  }
  [[nodiscard]] static Limits planned(Limits limits) {
    limits.states_merge = MergeableSoftmax<Softmax>;
    return limits;
  }
  [[nodiscard]] static ShardingContext checked(ShardingContext context) {
    const Limits& limits = context.limits;
    require(
        limits.max_sequences >= 1 && limits.max_positions >= 1 && limits.max_tokens >= limits.max_sequences,
        "limits: expected at least one sequence and position, and at least one token per sequence in a step; found ",
        limits.max_sequences, " sequences, ", limits.max_positions, " positions, ", limits.max_tokens, " tokens");
    require(limits.max_positions <= context.config.max_positions, "limits: the model has ",
            context.config.max_positions, " positions (max_position_embeddings), ", limits.max_positions,
            " were asked for");
    context.ranks().require_shares();
    Sharding::check(context.config, context.ranks());
    return context;
  }

  [[nodiscard]] Step prepare(std::span<const Chunk> chunks) {
    tokens_.clear(), wanted_.clear(), segments_.clear();
    index_t rows = 0;
    for (const Chunk& chunk : chunks) rows += static_cast<index_t>(chunk.tokens.size());
    require(rows <= limits().max_tokens, "step: planned for ", limits().max_tokens, " tokens at a time, found ", rows);
    for (const Chunk& chunk : chunks) {
      check(chunk);
      const auto row = static_cast<index_t>(tokens_.size());
      const auto count = static_cast<index_t>(chunk.tokens.size());
      segments_.push_back({chunk.sequence, length(chunk.sequence), row, count});
      tokens_.insert(tokens_.end(), chunk.tokens.begin(), chunk.tokens.end());
      const index_t first = chunk.logits == Wanted::all ? 0 : chunk.logits == Wanted::last ? count - 1 : count;
      for (index_t i = first; i < count; ++i) wanted_.push_back(row + i);
    }
    return {segments_, rows, wanted_};
  }

  void check(const Chunk& chunk) const {
    require(0 <= chunk.sequence && chunk.sequence < limits().max_sequences, "step: planned for ",
            limits().max_sequences, " sequences, found sequence ", chunk.sequence);
    require(!chunk.tokens.empty(), "step: expected at least one token of sequence ", chunk.sequence, ", found none");
    for (const Segment& s : segments_)
      require(s.sequence != chunk.sequence, "step: sequence ", chunk.sequence, " occurs twice");
    const index_t end = length(chunk.sequence) + static_cast<index_t>(chunk.tokens.size());
    require(end <= limits().max_positions, "step: sequence ", chunk.sequence, " would have ", end,
            " positions; there is room for ", limits().max_positions);
    for (const token_t id : chunk.tokens)
      require(0 <= id && id < config().vocab, "token ids: expected 0 to ", config().vocab - 1, ", found ", id);
  }

  template <class Phase, std::size_t count>
  void forward(Worker& worker, const std::array<Part<Phase>, count>& parts) {
    std::array<MicroBatch<Phase>, count> batches;
    index_t kept = 0, computed = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Plan plan = Phase::plan(config(), context_.ranks(), parts[i].step.rows);
      batches[i] = {parts[i].phase, plan, workspace_.views(plan, kept, computed)};
      kept += plan.kept.size(), computed += plan.computed.size();
      embed(worker, plan, parts[i].first_row, batches[i].a);
    }
    for (index_t l = 0; l < config().layers; ++l)
      decoder_layer<Softmax, Backend>(worker, std::span<MicroBatch<Phase>>(batches), config(), rope_,
                                      weights_.layer(l, batches.front().plan.slice), cache_, l);
    const TraceScope scope(worker.lane(), trace_head);
    index_t selected = 0;
    for (auto& batch : batches) {
      batch.template settle<Backend>(worker);
      const ConstActivations rows = batch.phase->select(worker, batch.a.x);
      const Activations normed =
          final_.matrix(selected + rows.rows, rows.cols).row_range({selected, selected + rows.rows});
      rms_norm<Backend>(worker, rows, weights_.final_norm(), static_cast<float>(config().rms_norm_eps), normed);
      selected += rows.rows;
    }
    project<Backend>(
        worker, final_.matrix(selected, config().hidden),
        std::array{Projection{weights_.lm_head(vocab_), nullptr, logits_.matrix(selected, vocab_.size())}});
  }

  /// Rows of the embedding come from the map on every rank: nothing on the wire.
  void embed(Worker& worker, const Plan& plan, index_t first_row, const StepActivations& a) {
    const TraceScope scope(worker.lane(), trace_embed);
    const Range kept = worker.share(plan.kept.size());
    for (index_t i = kept.begin; i < kept.end; ++i)
      widen_row<Backend>(weights_.embedding(), tokens_[static_cast<std::size_t>(first_row + plan.kept[i])], a.x.row(i));
    const Range computed = worker.share(plan.computed.size());
    for (index_t i = computed.begin; i < computed.end; ++i)
      a.positions[static_cast<std::size_t>(i)] = position_of(first_row + plan.computed[i]);
    worker.barrier();
  }
  [[nodiscard]] index_t position_of(index_t row) const {
    for (const Segment& s : segments_)
      if (row < s.row + s.count) return s.position + (row - s.row);
    return 0;
  }

  ShardingContext context_;
  HeldWeights weights_;
  Team team_;
  RopeTable rope_;
  Sharding sharding_;
  std::optional<Sharding> second_;  ///< the second micro-batch's, where sums are hidden
  MicroBatches micro_batches_;
  KvCache cache_;
  Workspace workspace_;
  Range vocab_;
  Buffer<float> final_;
  Buffer<float> logits_;
  std::vector<index_t> lengths_;
  std::vector<token_t> tokens_;
  std::vector<index_t> wanted_;
  std::vector<Segment> segments_;
};

// Not inline, so that a program may leave what is large to another unit (see runtime/instances.hpp).
template <class Sharding, class Softmax, class Backend>
Transformer<Sharding, Softmax, Backend>::Transformer(Communicator comm, ModelConfig config, ModelWeights weights,
                                                     TransformerOptions options)
    : context_(checked({traced(std::move(comm), options.trace), std::move(config), planned(options.limits),
                        std::move(options.shares), options.inner, options.overlap})),
      weights_(std::move(weights), context_.config.head_dim),
      team_(options.threads),
      rope_(rope_table<Backend>(context_.config.rope, context_.limits.max_positions, context_.config.head_dim)),
      sharding_(context_),
      micro_batches_(context_.limits.max_sequences, context_.limits.max_tokens),
      cache_(Sharding::layout(context_.config, context_.ranks()), context_.config.layers, context_.limits.max_sequences,
             context_.limits.max_positions, context_.config.head_dim, context_.limits.cache),
      workspace_(context_.config, Sharding::max_rows(context_.config, context_.ranks(), context_.limits),
                 Sharding::widest(context_.config, context_.ranks())),
      vocab_(vocab_part(context_.config.vocab, context_.ranks())),
      final_(context_.limits.max_tokens * context_.config.hidden),
      logits_(context_.limits.max_tokens * vocab_.size()),
      lengths_(static_cast<std::size_t>(context_.limits.max_sequences), 0) {
  if (options.trace != nullptr) team_.trace_to(*options.trace);
  if (options.copies_weights) {
    const Segment token{0, 0, 0, 1};
    weights_.copy(Sharding::plan(context_.config, context_.ranks(), Step{{&token, 1}, 1, {}}).slice, team_);
  }
  tokens_.reserve(static_cast<std::size_t>(context_.limits.max_tokens));
  wanted_.reserve(static_cast<std::size_t>(context_.limits.max_tokens));
  segments_.reserve(static_cast<std::size_t>(context_.limits.max_sequences));
  if constexpr (HidesSums<Sharding>)
    if (context_.overlap && context_.comm.size() > 1) second_.emplace(context_);
}

template <class Sharding, class Softmax, class Backend>
Logits Transformer<Sharding, Softmax, Backend>::step(std::span<const Chunk> chunks) {
  const Step step = prepare(chunks);
  run(step);
  for (const Segment& s : segments_) lengths_[static_cast<std::size_t>(s.sequence)] += s.count;
  return {logits_.matrix(static_cast<index_t>(wanted_.size()), vocab_.size()), vocab_};
}

}  // namespace tessera
