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

/// Throws the Error of a row of logits that says nothing, unless it is good.
inline void require_numbers(bool good, std::size_t row) {
  require(good, "logits of row ", row, " are not numbers: the weights are damaged or overflow f32");
}

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
      require_numbers(!damaged && std::isfinite(best.logit), i);
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

/// Rows that are made whole at a time: what a rank needs memory for, however many it asks for.
inline constexpr index_t whole_rows = 32;

/// Calls act(first, rows) on every rank, rows being the whole rows of logits from `first` on, [up to whole_rows,
/// vocab]. An allgather each time; for dumps and checks, not for every token.
template <class Act>
void each_whole_rows(Communicator& comm, const Logits& logits, const Ranks& ranks, index_t vocab, Act&& act) {
  const index_t rows = logits.local.rows, width = logits.vocab.size();
  const index_t most = std::min(rows, ranks.size == 1 ? 0 : whole_rows);
  Buffer<float> gathered(most * vocab), ordered(most * vocab);
  std::vector<index_t> counts(static_cast<std::size_t>(ranks.size));
  for (index_t first = 0; first < rows; first += whole_rows) {
    const index_t count = std::min(whole_rows, rows - first);
    const std::span<const float> mine(logits.local.data + first * width, static_cast<std::size_t>(count * width));
    if (ranks.size == 1) {
      act(first, mine);
      continue;
    }
    for (index_t r = 0; r < ranks.size; ++r)
      counts[static_cast<std::size_t>(r)] = count * vocab_part(vocab, ranks.at(r)).size();
    const auto size = static_cast<std::size_t>(count * vocab);
    comm.allgather<float>(mine, gathered.span().first(size), counts);
    const float* from = gathered.data();
    for (index_t r = 0; r < ranks.size; ++r) {
      const Range part = vocab_part(vocab, ranks.at(r));
      for (index_t i = 0; i < count; ++i, from += part.size())
        std::copy_n(from, part.size(), ordered.data() + i * vocab + part.begin);
    }
    act(first, std::span<const float>(ordered.data(), size));
  }
}

/// Whole rows of logits on every rank: [rows, vocab].
[[nodiscard]] inline Buffer<float> gather_logits(Communicator& comm, const Logits& logits, const Ranks& ranks,
                                                 index_t vocab) {
  Buffer<float> whole(logits.local.rows * vocab);
  each_whole_rows(comm, logits, ranks, vocab, [&](index_t first, std::span<const float> rows) {
    std::copy(rows.begin(), rows.end(), whole.data() + first * vocab);
  });
  return whole;
}

}  // namespace tessera
