#pragma once
// How a row of logits becomes one token, by the rules of transformers' generate and in their order: repetition penalty,
// temperature, top-k, top-p, min-p. Pure functions; sampler.hpp spreads them over ranks.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/partition.hpp>
#include <tessera/core/sampling_limits.hpp>
#include <tessera/core/types.hpp>

namespace tessera {

/// What a person asks for. The defaults draw from the model's own distribution.
struct Sampling {
  double temperature = 1.0;         ///< 0: greedy, the token of the greatest logit
  index_t top_k = 0;                ///< only the k greatest logits, and those equal to the last of them; 0: all
  double top_p = 1.0;               ///< only the greatest, until their probabilities reach p
  double min_p = 0.0;               ///< only those with at least p times the greatest probability
  double repetition_penalty = 1.0;  ///< logits of tokens that occurred: divided by it when positive, else multiplied
  std::uint64_t seed = 0;

  [[nodiscard]] bool greedy() const { return temperature == 0; }
  /// Whether every token may be drawn.
  [[nodiscard]] bool open() const { return top_k == 0 && top_p >= 1 && min_p <= 0; }
};

/// Throws Error that names the parameter which is out of its range.
inline void check(const Sampling& s) {
  const auto hold = [](const char* name, double number, NumberRange range) {
    require(range.contains(number), name, ": expected ", range.least, " to ", range.most, ", found ", number);
  };
  hold("temperature", s.temperature, sampling_limits::temperature);
  require(s.top_k >= 0, "top-k: expected 0 (no limit) or more, found ", s.top_k);
  hold("top-p", s.top_p, sampling_limits::top_p);
  hold("min-p", s.min_p, sampling_limits::min_p);
  hold("repetition-penalty", s.repetition_penalty, sampling_limits::repetition_penalty);
}

/// A token that may be drawn.
struct Candidate {
  float logit = 0;
  token_t id = 0;

  /// The order in which candidates are counted: by logit, then by id.
  [[nodiscard]] bool operator<(const Candidate& other) const {
    return logit != other.logit ? logit > other.logit : id < other.id;
  }
};

/// Applies the penalty, once for each distinct id of `tokens` in `vocab`; scores[i] belongs to id vocab.begin + i.
/// `seen` is scratch.
inline void penalize_repetition(std::span<float> scores, Range vocab, std::span<const token_t> tokens, double penalty,
                                std::vector<bool>& seen) {
  seen.assign(scores.size(), false);
  for (const token_t id : tokens) {
    if (id < vocab.begin || id >= vocab.end) continue;
    const auto i = static_cast<std::size_t>(id - vocab.begin);
    if (seen[i]) continue;
    seen[i] = true;
    const auto by = static_cast<float>(penalty);
    scores[i] = scores[i] < 0 ? scores[i] * by : scores[i] / by;
  }
}

/// Probability of a logit relative to that of the greatest one. Subtracting first, no temperature overflows.
[[nodiscard]] inline double relative_weight(const Sampling& s, float logit, float greatest) {
  return std::exp((static_cast<double>(logit) - greatest) / s.temperature);
}

/// The candidates that top-k leaves of `sorted`.
[[nodiscard]] inline std::span<const Candidate> keep_top_k(const Sampling& s, std::span<const Candidate> sorted) {
  auto k = static_cast<std::size_t>(s.top_k);
  if (k == 0 || k >= sorted.size()) return sorted;
  while (k < sorted.size() && sorted[k].logit == sorted[k - 1].logit) ++k;
  return sorted.first(k);
}

/// Draws with `u` in [0, 1) from `sorted`, which top-k has cut already; there is at least one. `mass` is the relative
/// weight of all that top-k has left. When the sampling is open, `sorted` may end where the weights reach u * mass.
[[nodiscard]] inline token_t draw(const Sampling& s, std::span<const Candidate> sorted, double mass, double u) {
  const float greatest = sorted.front().logit;
  double kept_mass = 0;
  std::size_t kept = 0;
  for (; kept < sorted.size(); ++kept) {
    const double weight = relative_weight(s, sorted[kept].logit, greatest);
    const bool outside = (s.top_p < 1 && kept_mass >= s.top_p * mass) || weight < s.min_p;
    if (kept > 0 && outside) break;
    kept_mass += weight;
  }
  const double target = u * (s.open() ? mass : kept_mass);
  double reached = 0;
  for (const Candidate& candidate : sorted.first(kept)) {
    reached += relative_weight(s, candidate.logit, greatest);
    if (reached > target) return candidate.id;
  }
  return sorted[kept - 1].id;  // u is close to 1, and the sums were rounded down
}

}  // namespace tessera
