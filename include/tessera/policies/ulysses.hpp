#pragma once
// Ulysses: tokens over ranks everywhere but in attention, where heads are over ranks (arXiv:2309.14509).

#include <vector>

#include <tessera/policies/head_wise.hpp>
#include <tessera/policies/phased.hpp>
#include <tessera/policies/striped_keys.hpp>

namespace tessera {

/// One all-to-all brings every rank all rows of its heads, a second one takes the results back to the rows' ranks.
/// Between the two `HeadKeys` attends as it does under HeadWise: WholeSequence on a cache by heads, StripedKeys on one
/// striped by position.
template <class HeadKeys>
class TokensToHeads {
 public:
  static constexpr bool splits = true;
  using Cache = typename HeadKeys::Cache;

  [[nodiscard]] static constexpr RowSet rows(index_t n, const Ranks& ranks) { return all_rows(n).sub(ranks.part(n)); }
  [[nodiscard]] static constexpr CacheLayout layout(const ModelConfig& config, const WeightSlice&,
                                                    const MeshRanks& mesh) {
    return HeadKeys::layout(config, slice_by_heads(config, mesh.outer), mesh);
  }

  [[nodiscard]] static Traffic traffic(const ModelConfig& config, const WeightSlice&, const MeshRanks& mesh,
                                       const Step& step) {
    const WeightSlice mine = slice_by_heads(config, mesh.outer);
    Traffic traffic = HeadKeys::traffic(config, mine, mesh, step);
    traffic.add(Collective::alltoall, 1, mesh.outer.part(step.rows).size() * sent_row(config, mesh.outer),
                mesh.outer.size);
    return traffic.add(Collective::alltoall, 1, step.rows * mine.q_heads.size() * config.head_dim, mesh.outer.size);
  }
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const WeightSlice&, const MeshRanks& mesh,
                                               const Limits& limits) {
    const WeightSlice mine = slice_by_heads(config, mesh.outer);
    return sent_floats(config, mesh.outer, limits) + received_floats(config, mesh.outer, limits) +
           limits.max_tokens * mine.q_heads.size() * config.head_dim +
           HeadKeys::exchange_floats(config, mine, mesh, limits);
  }
  [[nodiscard]] static index_t pairs(const ModelConfig& config, const WeightSlice&, const MeshRanks& mesh,
                                     const Step& step) {
    return HeadKeys::pairs(config, slice_by_heads(config, mesh.outer), mesh, step);
  }

  explicit TokensToHeads(const TokenContext& context)
      : comm_(context.comm),
        ranks_(context.mesh.outer),
        config_(context.config),
        keys_(with_heads_of(context)),
        send_counts_(static_cast<std::size_t>(ranks_.size)),
        receive_counts_(static_cast<std::size_t>(ranks_.size)) {
    for (index_t r = 0; r < ranks_.size; ++r) slices_.push_back(slice_by_heads(config_, ranks_.at(r)));
    sent_ = Buffer<float>(sent_floats(config_, ranks_, context.limits));
    received_ = Buffer<float>(received_floats(config_, ranks_, context.limits));
    attended_ = Buffer<float>(context.limits.max_tokens * q_size(mine()));
  }

  void begin(const Step& step) {
    step_ = step;
    keys_.begin(step);
  }

  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    worker.once([&] { to_heads<B>(q, kv); });
    const ConstActivations all = received_.matrix(step_.rows, row_size(mine()));
    const Activations attended = attended_.matrix(step_.rows, q_size(mine()));
    keys_.template attend<Softmax, B>(worker, all.col_range({0, q_size(mine())}),
                                      all.col_range({q_size(mine()), all.cols}), cache, layer, attended);
    worker.once([&] { to_tokens<B>(attended, out); });
  }

 private:
  [[nodiscard]] static TokenContext with_heads_of(TokenContext context) {
    context.slice = slice_by_heads(context.config, context.mesh.outer);
    return context;
  }
  [[nodiscard]] static constexpr index_t most_rows(const Ranks& ranks, const Limits& limits) {
    return std::min(limits.max_tokens, rows(limits.max_tokens, ranks).size() + 4);
  }
  /// Floats of one row [q | k | v] to all ranks: a KV head goes to each that reads it.
  [[nodiscard]] static index_t sent_row(const ModelConfig& config, const Ranks& ranks) {
    index_t floats = 0;
    for (index_t r = 0; r < ranks.size; ++r) floats += qkv_floats(config, slice_by_heads(config, ranks.at(r)));
    return floats;
  }
  /// Own rows of [q | k | v] to the heads' ranks; own heads' results back.
  [[nodiscard]] static index_t sent_floats(const ModelConfig& config, const Ranks& ranks, const Limits& limits) {
    return std::max(most_rows(ranks, limits) * sent_row(config, ranks),
                    limits.max_tokens * slice_by_heads(config, ranks).q_heads.size() * config.head_dim);
  }
  [[nodiscard]] static index_t received_floats(const ModelConfig& config, const Ranks& ranks, const Limits& limits) {
    return std::max(limits.max_tokens * qkv_floats(config, slice_by_heads(config, ranks)),
                    most_rows(ranks, limits) * config.heads * config.head_dim);
  }
  [[nodiscard]] const WeightSlice& mine() const { return slices_[static_cast<std::size_t>(ranks_.rank)]; }
  [[nodiscard]] index_t q_size(const WeightSlice& slice) const { return slice.q_heads.size() * config_.head_dim; }
  [[nodiscard]] index_t row_size(const WeightSlice& slice) const { return qkv_floats(config_, slice); }

  /// Rows of this rank, [q | k | v] of the heads of each rank, to that rank.
  template <SimdBackend B>
  void to_heads(ConstActivations q, ConstActivations kv) {
    const index_t head_dim = config_.head_dim;
    float* to = sent_.data();
    for (index_t r = 0; r < ranks_.size; ++r) {
      const WeightSlice& slice = slices_[static_cast<std::size_t>(r)];
      const index_t keys = slice.kv_heads.begin * head_dim;
      const index_t width = slice.kv_heads.size() * head_dim;
      for (index_t t = 0; t < q.rows; ++t) {
        to = copy_floats<B>(q.row(t) + slice.q_heads.begin * head_dim, q_size(slice), to);
        to = copy_floats<B>(kv.row(t) + keys, width, to);
        to = copy_floats<B>(kv.row(t) + kv.cols / 2 + keys, width, to);
      }
      send_counts_[static_cast<std::size_t>(r)] = q.rows * row_size(slice);
      receive_counts_[static_cast<std::size_t>(r)] = ranks_.part(step_.rows, r).size() * row_size(mine());
    }
    comm_.alltoall<float>({sent_.data(), to}, send_counts_,
                          received_.span().first(static_cast<std::size_t>(step_.rows * row_size(mine()))),
                          receive_counts_);
  }
  /// What this rank's heads found, back to the ranks that keep the rows.
  template <SimdBackend B>
  void to_tokens(ConstActivations attended, Activations out) {
    for (index_t r = 0; r < ranks_.size; ++r) {
      send_counts_[static_cast<std::size_t>(r)] = ranks_.part(step_.rows, r).size() * attended.cols;
      receive_counts_[static_cast<std::size_t>(r)] = out.rows * q_size(slices_[static_cast<std::size_t>(r)]);
    }
    comm_.alltoall<float>({attended.data, static_cast<std::size_t>(attended.rows * attended.cols)}, send_counts_,
                          received_.span().first(static_cast<std::size_t>(out.rows * out.cols)), receive_counts_);
    const float* from = received_.data();
    for (const WeightSlice& slice : slices_)
      for (index_t t = 0; t < out.rows; ++t, from += q_size(slice))
        copy_floats<B>(from, q_size(slice), out.row(t) + slice.q_heads.begin * config_.head_dim);
  }

  Communicator comm_;
  OwnedRanks ranks_;
  ModelConfig config_;
  HeadKeys keys_;
  std::vector<WeightSlice> slices_;  ///< of every rank, inside attention
  Buffer<float> sent_;
  Buffer<float> received_;
  Buffer<float> attended_;
  std::vector<index_t> send_counts_;
  std::vector<index_t> receive_counts_;
  Step step_;
};

/// Tokens over ranks, but heads over ranks inside attention; `HeadKeys` says where its keys are.
template <class HeadKeys>
class UlyssesPrefill : public Mesh<TokensToHeads<HeadKeys>, WholeModel, TokensOnly> {
 public:
  static constexpr std::string_view name = "ulysses prefill";
  using Mesh<TokensToHeads<HeadKeys>, WholeModel, TokensOnly>::Mesh;
  static void check(const ModelConfig& config, const Ranks& ranks) { SplitHeads::check(config, ranks); }
};

/// Ulysses prefill, then HeadWise decode on the same cache. At most as many ranks as query heads.
class Ulysses : public Phased<UlyssesPrefill<WholeSequence>, HeadWise> {
 public:
  static constexpr std::string_view name = "ulysses";
  using Phased::Phased;
};

static_assert(PhasePolicy<UlyssesPrefill<WholeSequence>> && ShardingPolicy<Ulysses>);

}  // namespace tessera
