#pragma once
// Random attention problems of any shape, and their answer in scalar double.

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <tessera/kernels/attention_problem.hpp>

namespace tessera::test {

inline constexpr float poison = std::numeric_limits<float>::quiet_NaN();

/// Tasks with caches of their own; `visible[t][i]` slots are seen by row i of task t. Slots that no row sees hold NaN,
/// and so does the space between a slot's keys and the next slot.
class RandomAttention {
 public:
  /// Queries are `magnitude` times normal numbers; of keys and values one number in 40 is `outlier` times as large.
  RandomAttention(HeadLayout layout, std::vector<std::vector<index_t>> visible, unsigned seed, float magnitude = 1,
                  CacheType type = CacheType::f32, float outlier = 1)
      : layout_(layout), visible_(std::move(visible)), random_(seed) {
    const index_t rows_before = 1;  // rows that belong to no task
    index_t rows = rows_before;
    for (const auto& v : visible_) rows += static_cast<index_t>(v.size());
    rows_ = rows;
    std::normal_distribution<float> normal(0.0F, 1.0F);
    queries_.assign(static_cast<std::size_t>(rows_ * width()), poison);
    std::generate(queries_.begin() + rows_before * width(), queries_.end(),
                  [&] { return magnitude * normal(random_); });
    caches_.reserve(visible_.size());
    index_t row = rows_before;
    for (const auto& v : visible_) {
      const index_t slots = v.empty() ? 0 : v.back();
      Cache cache;
      cache.slot_stride = layout.head_dim + 3;
      cache.head_stride = (slots + 2) * cache.slot_stride;
      const index_t kv_heads = layout.heads == 0 ? 0 : kv_head_of(layout.heads - 1) + 1;
      const auto size = static_cast<std::size_t>(kv_heads * cache.head_stride);
      cache.keys.assign(size, poison);
      cache.values.assign(size, poison);
      for (index_t h = 0; h < kv_heads; ++h)
        for (index_t s = 0; s < slots; ++s)
          for (index_t d = 0; d < layout.head_dim; ++d) {
            const auto at = static_cast<std::size_t>(h * cache.head_stride + s * cache.slot_stride + d);
            const bool is_outlier = outlier != 1 && random_() % 40 == 0;
            cache.keys[at] = (is_outlier ? outlier : 1.0F) * normal(random_);
            cache.values[at] = (is_outlier ? outlier : 1.0F) * normal(random_);
          }
      caches_.push_back(std::move(cache));
      Cache& kept = caches_.back();
      KeyValueView view =
          KeyValueView::of_floats(kept.keys.data(), kept.values.data(), kept.head_stride, kept.slot_stride);
      if (type != CacheType::f32)
        view = {encode(kept.keys, kept.stored_keys, kept.slot_stride, type),
                encode(kept.values, kept.stored_values, kept.slot_stride, type),
                kept.head_stride / kept.slot_stride * stored_stride(type), stored_stride(type), type};
      tasks_.push_back({row, static_cast<index_t>(v.size()), view, v.data()});
      row += static_cast<index_t>(v.size());
    }
  }

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t width() const { return layout_.heads * layout_.head_dim; }
  [[nodiscard]] const HeadLayout& layout() const { return layout_; }
  [[nodiscard]] const std::vector<std::vector<index_t>>& visible() const { return visible_; }
  [[nodiscard]] float* key(std::size_t task, index_t kv_head, index_t slot) {
    return caches_[task].keys.data() + kv_head * caches_[task].head_stride + slot * caches_[task].slot_stride;
  }
  [[nodiscard]] float* value(std::size_t task, index_t kv_head, index_t slot) {
    return caches_[task].values.data() + kv_head * caches_[task].head_stride + slot * caches_[task].slot_stride;
  }
  [[nodiscard]] float* query(index_t row) { return queries_.data() + row * width(); }

  [[nodiscard]] AttentionProblem problem() const {
    return {layout_, scale(), ConstActivations(queries_.data(), rows_, width()), tasks_};
  }

  /// [rows, heads * head_dim] in double; NaN in rows of no task.
  [[nodiscard]] std::vector<double> reference() const {
    std::vector<double> out(static_cast<std::size_t>(rows_ * width()), static_cast<double>(poison));
    for (std::size_t t = 0; t < tasks_.size(); ++t)
      for (index_t i = 0; i < tasks_[t].rows; ++i)
        for (index_t h = 0; h < layout_.heads; ++h) attend_one(t, i, h, out);
    return out;
  }

 private:
  struct Cache {
    std::vector<float> keys;
    std::vector<float> values;
    std::vector<std::byte> stored_keys;  ///< where they are not floats; the floats are then what they stand for
    std::vector<std::byte> stored_values;
    index_t head_stride = 0;
    index_t slot_stride = 0;
  };

  [[nodiscard]] index_t stored_stride(CacheType type) const { return bytes_of_head(type, layout_.head_dim) + 2; }
  /// Writes all heads to `stored`, and to `floats` what is stored.
  const std::byte* encode(std::vector<float>& floats, std::vector<std::byte>& stored, index_t stride, CacheType type) {
    const index_t heads = static_cast<index_t>(floats.size()) / stride;
    stored.assign(static_cast<std::size_t>(heads * stored_stride(type)), std::byte{0xFF});
    for (index_t i = 0; i < heads; ++i)
      with_cache_format(type, [&]<class F>(F) {
        F::encode(floats.data() + i * stride, layout_.head_dim, stored.data() + i * stored_stride(type));
        F::decode(stored.data() + i * stored_stride(type), layout_.head_dim, floats.data() + i * stride);
      });
    return stored.data();
  }

  [[nodiscard]] float scale() const { return 1.0F / std::sqrt(static_cast<float>(layout_.head_dim)); }

  /// As the whole model counts them; not asked of the layout, whose answer is what is tested.
  [[nodiscard]] index_t kv_head_of(index_t head) const { return (head + layout_.head_offset) / layout_.group; }

  void attend_one(std::size_t t, index_t i, index_t head, std::vector<double>& out) const {
    const AttentionTask& task = tasks_[t];
    const auto at = [&](const std::vector<float>& floats, index_t kv_head, index_t slot) {
      return floats.data() + kv_head * caches_[t].head_stride + slot * caches_[t].slot_stride;
    };
    const index_t row = task.row_begin + i;
    const index_t visible = task.visible[i];
    const index_t kv_head = kv_head_of(head);
    const float* q = queries_.data() + row * width() + head * layout_.head_dim;
    std::vector<double> weights(static_cast<std::size_t>(visible));
    double most = -std::numeric_limits<double>::infinity();
    for (index_t j = 0; j < visible; ++j) {
      double score = 0;
      for (index_t d = 0; d < layout_.head_dim; ++d)
        score += static_cast<double>(q[d]) * at(caches_[t].keys, kv_head, j)[d];
      weights[static_cast<std::size_t>(j)] = score * scale();
      most = std::max(most, score * scale());
    }
    double sum = 0;
    for (double& w : weights) sum += w = std::exp(w - most);
    for (index_t d = 0; d < layout_.head_dim; ++d) {
      double o = 0;
      for (index_t j = 0; j < visible; ++j)
        o += weights[static_cast<std::size_t>(j)] * at(caches_[t].values, kv_head, j)[d];
      out[static_cast<std::size_t>(row * width() + head * layout_.head_dim + d)] = visible == 0 ? 0.0 : o / sum;
    }
  }

  HeadLayout layout_;
  std::vector<std::vector<index_t>> visible_;
  std::mt19937 random_;
  index_t rows_ = 0;
  std::vector<float> queries_;
  std::vector<Cache> caches_;
  std::vector<AttentionTask> tasks_;
};

/// Rows at positions [position, position + rows) of a causal sequence: row i sees position + i + 1 slots.
[[nodiscard]] inline std::vector<index_t> causal(index_t position, index_t rows) {
  std::vector<index_t> visible;
  for (index_t i = 0; i < rows; ++i) visible.push_back(position + i + 1);
  return visible;
}

/// Storage for the states of `rows` rows.
class StatesBuffer {
 public:
  StatesBuffer(index_t rows, const HeadLayout& layout)
      : rows_(rows),
        heads_(layout.heads),
        width_(layout.heads * layout.head_dim),
        maximum_(static_cast<std::size_t>(rows * heads_), poison),
        sum_(maximum_),
        output_(static_cast<std::size_t>(rows * width_), poison) {}

  [[nodiscard]] SoftmaxStates view() {
    return {{maximum_.data(), rows_, heads_}, {sum_.data(), rows_, heads_}, {output_.data(), rows_, width_}};
  }

 private:
  index_t rows_;
  index_t heads_;
  index_t width_;
  std::vector<float> maximum_;
  std::vector<float> sum_;
  std::vector<float> output_;
};

}  // namespace tessera::test
