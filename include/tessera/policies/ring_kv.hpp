#pragma once
// Keys travel to queries around a ring: while a block is attended to, the next one is on its way (arXiv:2310.01889).

#include <utility>

#include <tessera/kernels/softmax_states.hpp>
#include <tessera/policies/all_gather_kv.hpp>

namespace tessera {

/// P-1 exchanges with the neighbours in a layer. A block is what one rank has of every sequence of the step: the cached
/// slots of its stripe, then its new rows, as rows [keys | values]. Every rank stores the rows of its own stripe as
/// they pass. Memory is two blocks, whatever the number of ranks. A softmax whose states do not merge gathers instead.
class RingKv {
 public:
  using Cache = CacheByPosition;
  static constexpr std::string_view strategy = "sequence_ring";

  [[nodiscard]] static Traffic traffic(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                       const Step& step) {
    index_t rows = 0;  // of all blocks but the next rank's, which arrives last and goes no further
    for (index_t r = 0; r < ranks.size; ++r) {
      if (r == (ranks.rank + 1) % ranks.size) continue;
      rows += zigzag_rows(step.rows, ranks, r).size();
      for (const Segment& s : step.segments)
        rows += Cache::layout(config, slice, ranks.at(r)).slots(s.sequence, s.position);
    }
    return Traffic{}.add(Collective::exchange, ranks.size - 1,
                         ranks.size == 1 ? 0 : rows * slice.kv_heads.size() * 2 * config.head_dim, ranks.size);
  }
  /// Two blocks, and the states of this rank's rows; a step that comes here finds `most_past` cached positions of each
  /// sequence. For a softmax whose states do not merge what gathers keys has instead.
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                               const Limits& limits, index_t most_past) {
    if (!limits.states_merge) return AllGatherKv<>::exchange_floats(config, slice, ranks, limits, most_past);
    const index_t states = std::min(limits.max_tokens, most_rows(ranks, limits)) * slice.q_heads.size();
    Limits cached = limits;
    cached.max_positions = most_past;
    return 2 * block_floats(config, slice, ranks, cached) + states * (config.head_dim + 2);
  }

  explicit RingKv(const TokenContext& context)
      : comm_(context.comm),
        overlap_(context.overlap && context.mesh.outer.size > 1),
        ranks_(context.mesh.outer),
        config_(context.config),
        slice_(context.slice),
        attention_(context.limits.attention),
        gather_(context) {
    if (overlap_) comm_ = comm_.in_background();
    const Limits& limits = context.limits;
    here_ = Buffer<float>(block_floats(config_, slice_, ranks_, limits));
    coming_ = Buffer<float>(here_.size());
    const index_t mine = std::min(limits.max_tokens, most_rows(ranks_, limits));
    const index_t heads = slice_.q_heads.size();
    maximum_ = Buffer<float>(mine * heads);
    sum_ = Buffer<float>(mine * heads);
    output_ = Buffer<float>(mine * heads * config_.head_dim);
    blocks_.resize(static_cast<std::size_t>(ranks_.size));
    for (Block& block : blocks_) {
      block.visible.reserve(static_cast<std::size_t>(mine));
      block.tasks.reserve(static_cast<std::size_t>(limits.max_sequences));
      block.parts.reserve(static_cast<std::size_t>(limits.max_sequences));
    }
  }

  void begin(const Step& step) {
    step_ = step;
    for (index_t r = 0; r < ranks_.size; ++r) plan_block(r, blocks_[static_cast<std::size_t>(r)]);
    gather_.begin(step);
  }

  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    if constexpr (!MergeableSoftmax<Softmax>) {
      gather_.template attend<Softmax, B>(worker, q, kv, cache, layer, out);
    } else {
      const SoftmaxStates states{maximum_.matrix(q.rows, slice_.q_heads.size()),
                                 sum_.matrix(q.rows, slice_.q_heads.size()), output_.matrix(q.rows, q.cols)};
      const HeadLayout layout = head_layout(config_, slice_.q_heads, slice_.kv_heads);
      worker.once([&] { pack<B>(kv, cache, layer); });
      reset<B>(worker, states);
      for (index_t turn = 0; turn < ranks_.size; ++turn) {
        Block& block = blocks_[static_cast<std::size_t>((ranks_.rank + ranks_.size - turn) % ranks_.size)];
        const bool last = turn + 1 == ranks_.size;
        if (worker.index() == 0 && !last && overlap_) send_on(block);
        Softmax::template attend_more<B>(worker, {layout, attention_scale(config_), q, block.tasks, attention_},
                                         states);
        store(worker, block, cache, layer);
        if (last) break;
        worker.once([&] {
          if (!overlap_) send_on(block);
          in_flight_.wait();
          std::swap(here_, coming_);
          aim(blocks_[static_cast<std::size_t>((ranks_.rank + ranks_.size - turn - 1) % ranks_.size)]);
        });
      }
      normalize<B>(worker, states, out);
    }
  }

 private:
  /// The rows of one rank's block that belong to one segment: cached slots first, then new rows.
  struct Part {
    Segment segment;
    index_t row = 0;     ///< first row of the part in the block
    index_t cached = 0;  ///< slots of the stripe
    index_t new_rows = 0;
    index_t first_new = 0;  ///< step row of the first new row
  };
  struct Block {
    index_t rows = 0;
    std::vector<Part> parts;
    std::vector<index_t> visible;
    std::vector<AttentionTask> tasks;
  };

  /// New rows of any rank's block.
  [[nodiscard]] static index_t most_rows(const Ranks& ranks, const Limits& limits) {
    index_t most = 0;
    for (index_t r = 0; r < ranks.size; ++r) most = std::max(most, zigzag_rows(limits.max_tokens, ranks, r).size() + 4);
    return most;
  }
  [[nodiscard]] static index_t block_floats(const ModelConfig& config, const WeightSlice& slice, const Ranks& ranks,
                                            const Limits& limits) {
    const CacheLayout stripe{slice.kv_heads, ranks.size, 0};
    const index_t rows = limits.max_sequences * stripe.capacity(limits.max_positions) + most_rows(ranks, limits);
    return rows * 2 * slice.kv_heads.size() * config.head_dim;
  }
  [[nodiscard]] index_t row_size() const { return 2 * slice_.kv_heads.size() * config_.head_dim; }
  [[nodiscard]] RowSet mine() const { return zigzag_rows(step_.rows, ranks_, ranks_.rank); }

  void plan_block(index_t r, Block& block) const {
    const RowSet theirs = zigzag_rows(step_.rows, ranks_, r);
    const CacheLayout stripe{slice_.kv_heads, ranks_.size, r};
    block.rows = 0;
    block.parts.clear(), block.visible.clear(), block.tasks.clear();
    for (const Segment& s : step_.segments) {
      Part part{s, block.rows, stripe.slots(s.sequence, s.position), 0, 0};
      part.new_rows = theirs.before(s.row + s.count) - theirs.before(s.row);
      part.first_new = theirs.before(s.row);
      block.parts.push_back(part);
      block.rows += part.cached + part.new_rows;
      // A row sees all cached slots, and those new rows of the block that are not after it.
      const index_t first = mine().before(s.row);
      const index_t end = mine().before(s.row + s.count);
      const auto at = static_cast<index_t>(block.visible.size());
      for (index_t i = first; i < end; ++i)
        block.visible.push_back(part.cached + theirs.before(mine()[i] + 1) - part.first_new);
      block.tasks.push_back({first, end - first, {}, block.visible.data() + at});
    }
  }
  /// Points a block's tasks at the buffer where the block that is here lies.
  void aim(Block& block) const {
    for (std::size_t i = 0; i < block.tasks.size(); ++i) {
      const float* keys = here_.data() + block.parts[i].row * row_size();
      block.tasks[i].cache = KeyValueView::of_floats(keys, keys + row_size() / 2, config_.head_dim, row_size());
    }
  }

  /// This rank's own block: the cached slots of its stripe, and the new rows of its tokens.
  template <SimdBackend B>
  void pack(ConstActivations kv, const KvCache& cache, index_t layer) {
    const Block& block = blocks_[static_cast<std::size_t>(ranks_.rank)];
    for (const Part& part : block.parts) {
      float* to = here_.data() + part.row * row_size();
      for (index_t slot = 0; slot < part.cached; ++slot) {
        for (index_t h = 0; h < slice_.kv_heads.size(); ++h)
          to = load_key<B>(cache, layer, part.segment.sequence, h, slot, to);
        for (index_t h = 0; h < slice_.kv_heads.size(); ++h)
          to = load_value<B>(cache, layer, part.segment.sequence, h, slot, to);
      }
      for (index_t i = 0; i < part.new_rows; ++i) to = copy_floats<B>(kv.row(part.first_new + i), row_size(), to);
    }
    aim(blocks_[static_cast<std::size_t>(ranks_.rank)]);
  }
  /// Passes the block that is here to the next rank, and takes the one that the rank before has.
  void send_on(const Block& block) {
    const index_t size = ranks_.size;
    const auto before = (ranks_.rank + size - 1) % size;
    const auto arriving = static_cast<std::size_t>((&block - blocks_.data() + size - 1) % size);
    in_flight_ = comm_.start_exchange<float>(
        here_.span().first(static_cast<std::size_t>(block.rows * row_size())),
        static_cast<int>((ranks_.rank + 1) % size),
        coming_.span().first(static_cast<std::size_t>(blocks_[arriving].rows * row_size())), static_cast<int>(before));
  }
  /// Keeps those new rows of a passing block that this rank's stripe owns.
  void store(Worker& worker, const Block& block, KvCache& cache, index_t layer) const {
    const index_t heads = slice_.kv_heads.size();
    const RowSet theirs = zigzag_rows(step_.rows, ranks_, &block - blocks_.data());
    for (const Part& part : block.parts) {
      const Range rows = worker.share(part.new_rows);
      for (index_t i = rows.begin; i < rows.end; ++i) {
        const Segment& s = part.segment;
        const index_t position = s.position + theirs[part.first_new + i] - s.row;
        if (!cache.layout().owns(s.sequence, position)) continue;
        const index_t slot = cache.layout().slot(position);
        const float* keys = here_.data() + (part.row + part.cached + i) * row_size();
        for (index_t h = 0; h < heads; ++h) {
          cache.store_key(layer, s.sequence, h, slot, keys + h * config_.head_dim);
          cache.store_value(layer, s.sequence, h, slot, keys + (heads + h) * config_.head_dim);
        }
      }
    }
    worker.barrier();
  }

  Communicator comm_;
  bool overlap_;  ///< a block is on its way while the one before is attended to
  OwnedRanks ranks_;
  ModelConfig config_;
  WeightSlice slice_;
  AttentionBlocks attention_;
  AllGatherKv<> gather_;  // for a softmax whose states do not merge; its pages are touched by it alone
  std::vector<Block> blocks_;
  Buffer<float> here_;
  Buffer<float> coming_;
  Buffer<float> maximum_;
  Buffer<float> sum_;
  Buffer<float> output_;
  Pending in_flight_;
  Step step_;
};

}  // namespace tessera
