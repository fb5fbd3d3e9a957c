#pragma once
// How well a model foretells a text, and how far one model's foretelling is from another's.

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tessera/runtime/any_model.hpp>
#include <tessera/runtime/vocabulary.hpp>

namespace tessera::program {

/// Sums over the tokens that were foretold.
struct TextScore {
  index_t tokens = 0;
  double surprise = 0;    ///< sum of -log p(token), in nats
  double divergence = 0;  ///< sum of KL(reference || model), in nats
  index_t agreed = 0;     ///< tokens at which both would choose the same

  [[nodiscard]] double perplexity() const { return std::exp(surprise / static_cast<double>(tokens)); }
  [[nodiscard]] double mean_divergence() const { return divergence / static_cast<double>(tokens); }
  [[nodiscard]] double agreement() const { return static_cast<double>(agreed) / static_cast<double>(tokens); }
};

/// What a part of a row of logits comes to; those of all parts of the vocabulary merge into the row's.
struct RowSummary {
  double largest = -INFINITY;  ///< NaN where some logit is
  double sum = 0;              ///< of exp(logit - largest)
  double next = -INFINITY;     ///< the logit of the token that came next, where the part has it
  index_t best = -1;           ///< the lowest id of the largest

  void merge(const RowSummary& other) {
    next = std::max(next, other.next);
    if (std::isnan(largest) || other.sum == 0) return;
    if (sum == 0 || std::isnan(other.largest) || other.largest > largest) {
      sum = other.sum + (sum == 0 ? 0 : sum * std::exp(largest - other.largest));
      largest = other.largest, best = other.best;
    } else {
      sum += other.sum * std::exp(other.largest - largest);
    }
  }
  /// log of the sum of exp of all logits.
  [[nodiscard]] double log_sum() const { return largest + std::log(sum); }
};

/// Of the logits of the ids in `vocab`.
[[nodiscard]] inline RowSummary summary_of(const float* logits, Range vocab, token_t next) {
  RowSummary part;
  for (index_t i = 0; i < vocab.size(); ++i) {
    if (std::isnan(logits[i])) return {.largest = NAN, .sum = NAN};
    if (logits[i] > part.largest) part.largest = logits[i], part.best = vocab.begin + i;
  }
  for (index_t i = 0; part.best >= 0 && i < vocab.size(); ++i) part.sum += std::exp(logits[i] - part.largest);
  if (next >= vocab.begin && next < vocab.end) part.next = logits[next - vocab.begin];
  return part;
}

/// Every rank's `mine`, in rank order, one after the other.
template <class T>
[[nodiscard]] std::vector<T> gather_equal(Communicator& comm, const std::vector<T>& mine) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  std::vector<T> all(ranks * mine.size());
  comm.allgather<T>(mine, std::span(all), std::vector<index_t>(ranks, static_cast<index_t>(mine.size())));
  return all;
}

/// Of whole rows, of which each rank has its part of the vocabulary; the same on all ranks. Throws Error, on every
/// rank, where a row is not numbers. Collective.
[[nodiscard]] inline std::vector<RowSummary> summaries_of(Communicator& comm, const Logits& logits,
                                                          std::span<const token_t> next) {
  std::vector<RowSummary> rows;
  for (std::size_t i = 0; i < next.size(); ++i)
    rows.push_back(summary_of(logits.local.row(static_cast<index_t>(i)), logits.vocab, next[i]));
  const std::vector<RowSummary> all = gather_equal(comm, rows);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] = {};
    for (std::size_t at = i; at < all.size(); at += rows.size()) rows[i].merge(all[at]);
    require_numbers(std::isfinite(rows[i].log_sum()), i);
  }
  return rows;
}

/// Adds what rows of logits say about the tokens that came next, and how far they are from those of a reference, unless
/// that is null. No row is made whole: sums over parts of the vocabulary travel. Collective; the same on all ranks.
inline void add_rows(TextScore& score, Communicator& comm, const Logits& logits, const Logits* reference,
                     std::span<const token_t> next) {
  const std::vector<RowSummary> rows = summaries_of(comm, logits, next);
  score.tokens += std::ssize(next);
  for (const RowSummary& row : rows) score.surprise += row.log_sum() - row.next;
  if (reference == nullptr) return;
  const std::vector<RowSummary> of_reference = summaries_of(comm, *reference, next);
  std::vector<double> parts(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const float* const q = logits.local.row(static_cast<index_t>(i));
    const float* const p = reference->local.row(static_cast<index_t>(i));
    const double all_q = rows[i].log_sum(), all_p = of_reference[i].log_sum();
    for (index_t v = 0; v < logits.vocab.size(); ++v) {
      const double log_p = p[v] - all_p;
      if (std::exp(log_p) > 0) parts[i] += std::exp(log_p) * (log_p - (q[v] - all_q));
    }
    score.agreed += rows[i].best == of_reference[i].best ? 1 : 0;
  }
  for (const double part : gather_equal(comm, parts)) score.divergence += part;
}

/// Scores a document of two tokens or more: all but the first are foretold, each from those before it. It fits the
/// model's positions; the models' caches are left empty. `reference` may be null. Collective; the same on all ranks.
inline void add_document(TextScore& score, AnyModel& model, AnyModel* reference, std::span<const token_t> ids) {
  const auto rows_of = [&](AnyModel& of, std::span<const token_t> some) {
    const Chunk chunk{0, some, Wanted::all};
    return of.step({&chunk, 1});
  };
  const auto step = static_cast<std::size_t>(model.limits().max_tokens);
  for (std::size_t begin = 0; begin + 1 < ids.size(); begin += step) {
    const auto some = ids.subspan(begin, std::min(step, ids.size() - 1 - begin));
    const Logits rows = rows_of(model, some);
    const std::optional<Logits> of_reference =
        reference != nullptr ? std::optional(rows_of(*reference, some)) : std::nullopt;
    add_rows(score, model.comm(), rows, of_reference ? &*of_reference : nullptr, ids.subspan(begin + 1, some.size()));
  }
  model.truncate(0, 0);
  if (reference != nullptr) reference->truncate(0, 0);
}

/// A text in documents: each begins at a `separator`, or where there is none, the text is one.
[[nodiscard]] inline std::vector<std::string> documents_of(const std::string& text, const std::string& separator) {
  std::vector<std::string> documents;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t next = separator.empty() ? std::string::npos : text.find(separator, begin + 1);
    documents.push_back(text.substr(begin, next - begin));
    begin = std::min(next, text.size());
  }
  return documents;
}

}  // namespace tessera::program
