#pragma once
// What kernels cost on a machine, as arithmetic: the longer of computing and of reading, with the shares of the
// machine's limits that kernels of that size reach.

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <tessera/kernels/attention_problem.hpp>

namespace tessera {

/// A share of a limit by size: measured at some sizes, in between linear in the size's logarithm, beyond as the
/// nearest. Errors: no sizes, sizes that do not grow, a share outside (0, 1.5] (a limit is measured, too, and may be
/// passed).
class Share {
 public:
  Share() : Share({{1, 1}}) {}
  explicit Share(std::vector<std::pair<double, double>> by_size) : by_size_(std::move(by_size)) {
    require(!by_size_.empty(), "machine model: a share needs one size at least");
    for (std::size_t i = 0; i < by_size_.size(); ++i) {
      const auto [size, share] = by_size_[i];
      require(size > 0 && (i == 0 || size > by_size_[i - 1].first), "machine model: sizes of shares must grow, found ",
              size);
      require(share > 0 && share <= 1.5, "machine model: expected a share of a limit in (0, 1.5], found ", share);
    }
  }

  [[nodiscard]] double at(double size) const {
    const auto above = std::find_if(by_size_.begin(), by_size_.end(), [&](const auto& p) { return p.first >= size; });
    if (above == by_size_.begin()) return above->second;
    const auto below = above - 1;
    if (above == by_size_.end()) return below->second;
    const double part = std::log(size / below->first) / std::log(above->first / below->first);
    return below->second + part * (above->second - below->second);
  }

 private:
  std::vector<std::pair<double, double>> by_size_;
};

/// A rank's part of a machine, all threads together, and what kernels reach of it.
struct MachineModel {
  std::string name = "unnamed";
  int threads = 1;
  double flops = 1e9;        ///< f32 operations a second, a fused pair counts two
  double memory = 1e9;       ///< bytes a second that all threads read together
  double copy = 1e9;         ///< bytes a second that one thread copies from memory to memory
  double cached_copy = 1e9;  ///< the same of little, that stays in its cache
  double start = 0;          ///< seconds in which all threads meet: at the end of a kernel, and around what one does
  Share products;            ///< of flops, by rows of the input
  Share attention;           ///< of flops, by queries that see the same keys
  double reading = 1;        ///< of memory, by products
  double reading_keys = 1;   ///< of memory, by attention
};

/// out [rows, outputs] = x [rows, inputs] weight^T, with a weight of `bytes`: multiplying, or weight, x and out through
/// memory once.
[[nodiscard]] inline double product_seconds(const MachineModel& m, index_t rows, index_t outputs, index_t inputs,
                                            index_t bytes) {
  if (rows == 0 || outputs == 0 || inputs == 0) return 0;
  const double multiplied = static_cast<double>(rows) * static_cast<double>(outputs) * static_cast<double>(inputs);
  const double moved = static_cast<double>(bytes) + 4.0 * static_cast<double>(rows * (inputs + outputs));
  return m.start + std::max(2 * multiplied / (m.flops * m.products.at(static_cast<double>(rows))),
                            moved / (m.memory * m.reading));
}

/// Attention of a problem: its scores and sums, or its keys and values once from memory.
[[nodiscard]] inline double attention_seconds(const MachineModel& m, const AttentionProblem& problem) {
  const HeadLayout& layout = problem.layout;
  double seconds = 0;
  for (const AttentionTask& task : problem.tasks) {
    if (task.rows == 0 || layout.heads == 0) continue;
    double pairs = 0;
    for (index_t i = 0; i < task.rows; ++i) pairs += static_cast<double>(task.visible[i] * layout.heads);
    const double keys = static_cast<double>(task.visible[task.rows - 1] * layout.kv_heads());
    if (keys == 0) continue;
    const double queries = static_cast<double>(task.rows * layout.heads) / static_cast<double>(layout.kv_heads());
    const double read = 2 * keys * static_cast<double>(bytes_of_head(task.cache.type, layout.head_dim));
    const double computed = 4 * pairs * static_cast<double>(layout.head_dim) / (m.flops * m.attention.at(queries));
    seconds += std::max(computed, read / (m.memory * m.reading_keys));
  }
  return seconds == 0 ? 0 : 2 * m.start + seconds;  // the threads meet once more, to merge what they found of a head
}

/// `bytes` read and written in order by all threads, for a kernel that does little else; in all so many meetings.
[[nodiscard]] inline double streaming_seconds(const MachineModel& m, double bytes, int meetings = 1) {
  return bytes == 0 ? 0 : meetings * m.start + bytes / m.memory;
}

/// `bytes` copied by one thread while the others wait.
[[nodiscard]] inline double copying_seconds(const MachineModel& m, double bytes) { return bytes / m.copy; }
[[nodiscard]] inline double cached_copying_seconds(const MachineModel& m, double bytes) {
  return bytes / m.cached_copy;
}

}  // namespace tessera
