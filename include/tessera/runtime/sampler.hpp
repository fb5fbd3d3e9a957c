#pragma once
// Sampling from logits that are split over ranks by vocabulary: each rank offers what could be drawn, one rank decides.

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
/// On the wire per row and rank: 24 bytes, and 8 for each candidate that this rank's logits leave possible. That is one
/// when greedy, k (and what equals the last of them) with top-k, else those which hold the mass of top-p, or without
/// top-p the mass of the random number. A flat distribution may make that all of the vocabulary.
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
    gather_heads(comm, scores);
    gather_offers(comm, scores, draws);
    if (comm.rank() == 0)
      for (std::size_t i = 0; i < rows; ++i) ids[i] = decide(i, random_of(draws[i]));
    // Processors of different machines may round exp differently: one rank decides for all.
    comm.broadcast(ids, 0);
  }

 private:
  /// What ranks must know of each other's part of a row before they can tell which candidates are possible.
  struct Head {
    float greatest = -INFINITY;  // NaN when a NaN is in the part
    double mass = 0;             // relative to the part's greatest
  };

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

  [[nodiscard]] Head head_of(std::span<const float> part) const {
    Head head;
    for (const float score : part) {
      if (std::isnan(score)) return {NAN, 0};
      head.greatest = std::max(head.greatest, score);
    }
    // With top-k the mass is that of the candidates alone; an infinite logit is refused by all ranks together.
    if (sampling_.top_k > 0 || !std::isfinite(head.greatest)) return head;
    for (const float score : part) head.mass += relative_weight(sampling_, score, head.greatest);
    return head;
  }

  /// Every row's head over all ranks: its greatest logit, and the mass relative to that.
  void gather_heads(Communicator& comm, const Logits& scores) {
    const auto rows = static_cast<std::size_t>(scores.local.rows);
    const auto ranks = static_cast<std::size_t>(comm.size());
    my_heads_.resize(rows), heads_.resize(rows * ranks), counts_.assign(ranks, scores.local.rows);
    for (std::size_t i = 0; i < rows; ++i) my_heads_[i] = head_of(row(scores, i));
    comm.allgather<Head>(my_heads_, std::span(heads_), counts_);
    for (std::size_t i = 0; i < rows; ++i) {
      Head whole;
      for (std::size_t r = 0; r < ranks && !std::isnan(whole.greatest); ++r) {
        const float greatest = heads_[r * rows + i].greatest;
        whole.greatest = std::isnan(greatest) ? greatest : std::max(whole.greatest, greatest);
      }
      require(std::isfinite(whole.greatest), "logits of row ", i,
              " are not numbers: the weights are damaged or overflow f32");
      for (std::size_t r = 0; r < ranks; ++r) {
        const Head& part = heads_[r * rows + i];
        if (part.mass > 0) whole.mass += part.mass * relative_weight(sampling_, part.greatest, whole.greatest);
      }
      my_heads_[i] = whole;
    }
  }

  /// offers_ := all ranks' candidates, a rank's rows one after another; offered_[rank * rows + row] are their numbers.
  void gather_offers(Communicator& comm, const Logits& scores, std::span<const Draw> draws) {
    const auto rows = draws.size();
    const auto ranks = static_cast<std::size_t>(comm.size());
    my_offers_.clear(), my_offered_.resize(rows), offered_.resize(rows * ranks);
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t before = my_offers_.size();
      offer(row(scores, i), scores.vocab, my_heads_[i], random_of(draws[i]));
      my_offered_[i] = static_cast<index_t>(my_offers_.size() - before);
    }
    comm.allgather<index_t>(my_offered_, std::span(offered_), counts_);
    counts_.assign(ranks, 0);
    for (std::size_t i = 0; i < offered_.size(); ++i) counts_[i / rows] += offered_[i];
    index_t all = 0;
    for (const index_t count : counts_) all += count;
    offers_.resize(static_cast<std::size_t>(all));
    comm.allgather<Candidate>(my_offers_, std::span(offers_), counts_);
  }

  /// Appends this part's candidates to my_offers_, those that could be drawn as far as the part and the head tell.
  void offer(std::span<const float> part, Range vocab, const Head& head, double u) {
    part_.resize(part.size());
    for (std::size_t i = 0; i < part.size(); ++i)
      part_[i] = {part[i], static_cast<token_t>(vocab.begin + static_cast<index_t>(i))};
    if (sampling_.top_k > 0) {
      const std::size_t k = std::min(part.size(), static_cast<std::size_t>(sampling_.top_k));
      sort_greatest(k);
      for (const Candidate& candidate : part_)
        if (k > 0 && candidate.logit >= greatest_[k - 1].logit) my_offers_.push_back(candidate);
      return;
    }
    // Whoever comes before a candidate here comes before it everywhere: past the mass in this part, past it in all.
    const double share = sampling_.open() ? u : sampling_.top_p;
    const double enough = share < 1 ? share * head.mass * (1 + 1e-9) : INFINITY;
    for (std::size_t n = std::min<std::size_t>(64, part.size());; n = std::min(4 * n, part.size())) {
      sort_greatest(n);
      double mass = 0;
      std::size_t kept = 0;
      for (; kept < n && mass <= enough; ++kept) {
        const double weight = relative_weight(sampling_, greatest_[kept].logit, head.greatest);
        if (weight < sampling_.min_p) break;
        mass += weight;
      }
      if (kept < n || n == part.size()) {
        my_offers_.insert(my_offers_.end(), greatest_.begin(), greatest_.begin() + static_cast<std::ptrdiff_t>(kept));
        return;
      }
    }
  }

  /// greatest_ := the n first of part_, in order.
  void sort_greatest(std::size_t n) {
    greatest_.resize(n);
    std::partial_sort_copy(part_.begin(), part_.end(), greatest_.begin(), greatest_.end());
  }

  [[nodiscard]] token_t decide(std::size_t row, double u) {
    const std::size_t rows = my_offered_.size();
    part_.clear();
    auto from = offers_.cbegin();
    for (std::size_t i = 0; i < offered_.size(); from += static_cast<std::ptrdiff_t>(offered_[i++]))
      if (i % rows == row) part_.insert(part_.end(), from, from + static_cast<std::ptrdiff_t>(offered_[i]));
    std::sort(part_.begin(), part_.end());
    const std::span<const Candidate> kept = keep_top_k(sampling_, part_);
    double mass = my_heads_[row].mass;
    if (sampling_.top_k > 0) {
      mass = 0;
      for (const Candidate& each : kept) mass += relative_weight(sampling_, each.logit, kept.front().logit);
    }
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
  std::vector<Head> my_heads_, heads_;
  std::vector<Candidate> part_, greatest_, my_offers_, offers_;
  std::vector<index_t> counts_, my_offered_, offered_;
};

}  // namespace tessera
