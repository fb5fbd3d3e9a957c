#pragma once
// Logits that are split over ranks by vocabulary: the best id of all, and whole rows where somebody asks for them.

#include <algorithm>
#include <cmath>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/buffer.hpp>
#include <tessera/models/request.hpp>
#include <tessera/policies/plan.hpp>

namespace tessera {

/// The id of the greatest logit in each row, the lowest id among equals, on every rank alike: `ids` has one element for
/// each row of `logits`. Throws Error, on every rank, when a row holds no number (the weights are damaged).
class Argmax {
 public:
  void operator()(Communicator& comm, const Logits& logits, std::span<token_t> ids) {
    const auto rows = static_cast<std::size_t>(logits.local.rows);
    require(ids.size() == rows, "argmax: expected room for ", rows, " ids, found ", ids.size());
    mine_.resize(rows);
    all_.resize(rows * static_cast<std::size_t>(comm.size()));
    counts_.assign(static_cast<std::size_t>(comm.size()), static_cast<index_t>(rows));
    for (std::size_t i = 0; i < rows; ++i) mine_[i] = best_of(logits.local.row(static_cast<index_t>(i)), logits.vocab);
    comm.allgather<Candidate>(mine_, std::span<Candidate>(all_), counts_);
    for (std::size_t i = 0; i < rows; ++i) {
      Candidate best;
      bool damaged = false;
      for (std::size_t r = 0; r < counts_.size(); ++r) {
        const Candidate& candidate = all_[r * rows + i];
        damaged = damaged || std::isnan(candidate.logit);
        if (candidate.better_than(best)) best = candidate;
      }
      require(!damaged && std::isfinite(best.logit), "logits of row ", i,
              " are not numbers: the weights are damaged or overflow f32");
      ids[i] = best.id;
    }
  }

 private:
  struct Candidate {
    float logit = -INFINITY;  ///< a NaN: the slice has one
    token_t id = -1;          ///< none: a NaN, or a slice without rows of the vocabulary

    [[nodiscard]] bool better_than(const Candidate& other) const {
      if (id < 0) return false;
      return other.id < 0 || logit > other.logit || (logit == other.logit && id < other.id);
    }
  };

  [[nodiscard]] static Candidate best_of(const float* logits, Range vocab) {
    Candidate best;
    for (index_t i = 0; i < vocab.size(); ++i) {
      if (std::isnan(logits[i])) return {logits[i], -1};  // it has spread: no other number of this row means anything
      if (best.id < 0 || logits[i] > best.logit) best = {logits[i], static_cast<token_t>(vocab.begin + i)};
    }
    return best;
  }

  std::vector<Candidate> mine_;
  std::vector<Candidate> all_;
  std::vector<index_t> counts_;
};

/// Whole rows of logits on every rank: [rows, vocab]. One allgather; for dumps and checks, not for every token.
[[nodiscard]] inline Buffer<float> gather_logits(Communicator& comm, const Logits& logits, const Ranks& ranks,
                                                 index_t vocab) {
  const index_t rows = logits.local.rows;
  Buffer<float> gathered(rows * vocab);
  std::vector<index_t> counts;
  for (index_t r = 0; r < ranks.size; ++r) counts.push_back(rows * vocab_part(vocab, ranks.at(r)).size());
  comm.allgather<float>({logits.local.data, static_cast<std::size_t>(rows * logits.vocab.size())}, gathered.span(),
                        counts);
  Buffer<float> ordered(rows * vocab);
  const float* from = gathered.data();
  for (index_t r = 0; r < ranks.size; ++r) {
    const Range part = vocab_part(vocab, ranks.at(r));
    for (index_t i = 0; i < rows; ++i, from += part.size())
      std::copy_n(from, part.size(), ordered.data() + i * vocab + part.begin);
  }
  return ordered;
}

}  // namespace tessera
