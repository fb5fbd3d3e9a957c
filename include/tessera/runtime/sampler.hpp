#pragma once
// Sampling from logits that are split over ranks by vocabulary: each rank offers what could be drawn, one rank decides.

#include <array>
#include <functional>

#include <tessera/runtime/philox.hpp>
#include <tessera/runtime/sampling.hpp>
#include <tessera/runtime/vocabulary.hpp>

namespace tessera {

/// What a token is drawn for.
struct Draw {
  index_t sequence = 0;             ///< with the seed and the position it makes the random number
  std::span<const token_t> tokens;  ///< the sequence so far, prompt included; the drawn token comes next
};

/// Draws one token for each row of logits, the same on every rank.
///
/// The seed, the sequence and the position alone make the random number, and candidates are counted by logit, then by
/// id: so the text depends on neither batch nor number of ranks, unless two candidates are closer than the logit error.
///
/// On the wire per row and rank: 16 bytes, 8 for each candidate that can still be drawn, and without top-k a histogram
/// of 2 KiB that tells where the kept mass ends. Candidates are one when greedy, k (and what equals the last of them)
/// with top-k, else those which hold the mass of top-p, or of the random number when nothing limits the sampling: a few
/// in text, but up to the whole vocabulary where a distribution is flat.
class Sampler {
 public:
  /// Throws Error for parameters out of their range.
  explicit Sampler(Sampling sampling) : sampling_(sampling) { check(sampling_); }

  [[nodiscard]] const Sampling& sampling() const { return sampling_; }

  /// `draws` and `ids` have one element for each row of `logits`. Collective. Throws Error, on every rank, when a row
  /// holds something that is no number.
  void operator()(Communicator& comm, const Logits& logits, std::span<const Draw> draws, std::span<token_t> ids) {
    const auto rows = static_cast<std::size_t>(logits.local.rows);
    require(draws.size() == rows && ids.size() == rows, "sampler: expected ", rows, " draws and ids, found ",
            draws.size(), " and ", ids.size());
    const Logits scores{penalized(logits, draws), logits.vocab};
    if (sampling_.greedy()) return argmax_(comm, scores, ids);
    counts_.assign(static_cast<std::size_t>(comm.size()), logits.local.rows);
    gather_greatest(comm, scores);
    if (sampling_.top_k == 0) gather_histograms(comm, scores);
    gather_offers(comm, scores, draws);
    if (comm.rank() == 0)
      for (std::size_t i = 0; i < rows; ++i) ids[i] = decide(i, random_of(draws[i]));
    // Processors of different machines may round exp differently: one rank decides for all.
    comm.broadcast(ids, 0);
  }

 private:
  /// Mass by distance from the greatest logit, in units of the temperature; the last bin takes all beyond.
  static constexpr index_t bins = 256;
  static constexpr double bins_per_unit = 8;
  using Histogram = std::array<double, bins>;

  [[nodiscard]] double random_of(const Draw& draw) const {
    return uniform(sampling_.seed, static_cast<std::uint64_t>(draw.sequence), draw.tokens.size());
  }

  [[nodiscard]] ConstActivations penalized(const Logits& logits, std::span<const Draw> draws) {
    if (sampling_.repetition_penalty == 1) return logits.local;
    const auto width = static_cast<std::size_t>(logits.vocab.size());
    scores_.resize(draws.size() * width);
    for (std::size_t i = 0; i < draws.size(); ++i) {
      const std::span<float> row = std::span(scores_).subspan(i * width, width);
      std::copy_n(logits.local.row(static_cast<index_t>(i)), width, row.begin());
      penalize_repetition(row, logits.vocab, draws[i].tokens, sampling_.repetition_penalty, seen_);
    }
    return {scores_.data(), logits.local.rows, logits.vocab.size()};
  }

  /// greatest_[row] := the greatest logit of all ranks.
  void gather_greatest(Communicator& comm, const Logits& scores) {
    const auto rows = static_cast<std::size_t>(scores.local.rows);
    greatest_.assign(rows, -INFINITY);
    for (std::size_t i = 0; i < rows; ++i)
      for (const float score : row(scores, i)) greatest_[i] = greater(greatest_[i], score);
    gathered_greatest_.resize(rows * counts_.size());
    comm.allgather<float>(greatest_, std::span(gathered_greatest_), counts_);
    for (std::size_t i = 0; i < gathered_greatest_.size(); ++i)
      greatest_[i % rows] = greater(greatest_[i % rows], gathered_greatest_[i]);
    for (std::size_t i = 0; i < rows; ++i) require_numbers(std::isfinite(greatest_[i]), i);
  }
  /// A NaN is greater than any number: it spreads.
  [[nodiscard]] static float greater(float a, float b) { return std::isnan(a) || a > b ? a : b; }

  /// histograms_[row] := the mass of all ranks, relative to the greatest logit.
  void gather_histograms(Communicator& comm, const Logits& scores) {
    const auto rows = greatest_.size();
    histograms_.assign(rows, Histogram{});
    for (std::size_t i = 0; i < rows; ++i)
      for (const float score : row(scores, i))
        histograms_[i][bin_of(score, greatest_[i])] += relative_weight(sampling_, score, greatest_[i]);
    gathered_histograms_.resize(rows * counts_.size());
    comm.allgather<Histogram>(histograms_, std::span(gathered_histograms_), counts_);
    histograms_.assign(rows, Histogram{});
    for (std::size_t i = 0; i < gathered_histograms_.size(); ++i)
      for (std::size_t b = 0; b < bins; ++b) histograms_[i % rows][b] += gathered_histograms_[i][b];
  }

  [[nodiscard]] std::size_t bin_of(float logit, float greatest) const {
    const double distance = (static_cast<double>(greatest) - logit) / sampling_.temperature * bins_per_unit;
    return distance < bins - 1 ? static_cast<std::size_t>(distance) : bins - 1;
  }

  /// The last bin from which a candidate can be drawn.
  [[nodiscard]] std::size_t last_bin(const Histogram& histogram, double u) const {
    const double share = sampling_.open() ? u : sampling_.top_p;
    if (share >= 1) return bins - 1;
    const double enough = share * mass_of(histogram) * (1 + 1e-9);  // ranks may round differently
    double mass = 0;
    std::size_t bin = 0;
    while (bin < bins - 1 && (mass += histogram[bin]) <= enough) ++bin;
    return bin;
  }
  [[nodiscard]] static double mass_of(const Histogram& histogram) {
    double mass = 0;
    for (const double of_bin : histogram) mass += of_bin;
    return mass;
  }

  /// offers_ := all ranks' candidates, a rank's rows one after another; offered_[rank * rows + row] are their numbers.
  void gather_offers(Communicator& comm, const Logits& scores, std::span<const Draw> draws) {
    const auto rows = draws.size();
    my_offers_.clear(), my_offered_.resize(rows), offered_.resize(rows * counts_.size());
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t before = my_offers_.size();
      if (sampling_.top_k > 0)
        offer_top_k(row(scores, i), scores.vocab);
      else
        offer_near(row(scores, i), scores.vocab, greatest_[i], last_bin(histograms_[i], random_of(draws[i])));
      my_offered_[i] = static_cast<index_t>(my_offers_.size() - before);
    }
    comm.allgather<index_t>(my_offered_, std::span(offered_), counts_);
    std::fill(counts_.begin(), counts_.end(), 0);
    index_t all = 0;
    for (std::size_t i = 0; i < offered_.size(); ++i) counts_[i / rows] += offered_[i], all += offered_[i];
    offers_.resize(static_cast<std::size_t>(all));
    comm.allgather<Candidate>(my_offers_, std::span(offers_), counts_);
  }

  void offer_top_k(std::span<const float> part, Range vocab) {
    const std::size_t k = std::min(part.size(), static_cast<std::size_t>(sampling_.top_k));
    if (k == 0) return;
    best_.resize(k);
    std::partial_sort_copy(part.begin(), part.end(), best_.begin(), best_.end(), std::greater<>());
    for (std::size_t i = 0; i < part.size(); ++i)
      if (part[i] >= best_.back()) my_offers_.push_back(candidate(part, vocab, i));
  }

  void offer_near(std::span<const float> part, Range vocab, float greatest, std::size_t last) {
    const double least = sampling_.min_p * (1 - 1e-9);
    for (std::size_t i = 0; i < part.size(); ++i) {
      if (bin_of(part[i], greatest) > last) continue;
      if (least > 0 && relative_weight(sampling_, part[i], greatest) < least) continue;
      my_offers_.push_back(candidate(part, vocab, i));
    }
  }

  [[nodiscard]] static Candidate candidate(std::span<const float> part, Range vocab, std::size_t i) {
    return {part[i], static_cast<token_t>(vocab.begin + static_cast<index_t>(i))};
  }

  [[nodiscard]] token_t decide(std::size_t row, double u) {
    const std::size_t rows = my_offered_.size();
    candidates_.clear();
    auto from = offers_.cbegin();
    for (std::size_t i = 0; i < offered_.size(); from += static_cast<std::ptrdiff_t>(offered_[i++]))
      if (i % rows == row) candidates_.insert(candidates_.end(), from, from + static_cast<std::ptrdiff_t>(offered_[i]));
    std::sort(candidates_.begin(), candidates_.end());
    const std::span<const Candidate> kept = keep_top_k(sampling_, candidates_);
    double mass = 0;
    if (sampling_.top_k > 0)
      for (const Candidate& each : kept) mass += relative_weight(sampling_, each.logit, kept.front().logit);
    else
      mass = mass_of(histograms_[row]);
    return draw(sampling_, kept, mass, u);
  }

  [[nodiscard]] static std::span<const float> row(const Logits& scores, std::size_t i) {
    return {scores.local.row(static_cast<index_t>(i)), static_cast<std::size_t>(scores.vocab.size())};
  }

  Sampling sampling_;
  Argmax argmax_;
  // Scratch of one call, kept for the next.
  std::vector<float> scores_;
  std::vector<bool> seen_;
  std::vector<float> greatest_, gathered_greatest_, best_;
  std::vector<Histogram> histograms_, gathered_histograms_;
  std::vector<Candidate> my_offers_, offers_, candidates_;
  std::vector<index_t> counts_, my_offered_, offered_;
};

}  // namespace tessera
