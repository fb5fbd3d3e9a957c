#pragma once
// How well a model foretells a text, and how far one model's foretelling is from another's.

#include <algorithm>
#include <cmath>
#include <span>
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

/// log of the sum of exp of a row of logits, in double.
[[nodiscard]] inline double log_sum_exp(std::span<const float> row) {
  const double largest = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float logit : row) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

/// Adds what a row of logits says about the token that came next.
inline void add_surprise(TextScore& score, std::span<const float> row, token_t next) {
  ++score.tokens;
  score.surprise += log_sum_exp(row) - row[static_cast<std::size_t>(next)];
}

/// Adds how far a row of logits is from that of a reference.
inline void add_divergence(TextScore& score, std::span<const float> row, std::span<const float> reference) {
  const double all = log_sum_exp(row), all_of_reference = log_sum_exp(reference);
  double sum = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const double log_p = reference[i] - all_of_reference;
    sum += std::exp(log_p) * (log_p - (row[i] - all));
  }
  score.divergence += sum;
  const auto best = [](std::span<const float> of) { return std::max_element(of.begin(), of.end()) - of.begin(); };
  score.agreed += best(row) == best(reference) ? 1 : 0;
}

/// Scores a document of two tokens or more: all but the first are foretold, each from those before it. It fits the
/// model's positions; the models' caches are left empty. `reference` may be null. Collective; the same on all ranks.
inline void add_document(TextScore& score, AnyModel& model, AnyModel* reference, std::span<const token_t> ids) {
  const index_t vocab = model.config().vocab;
  const auto rows_of = [&](AnyModel& of, std::span<const token_t> some) {
    const Chunk chunk{0, some, Wanted::all};
    return gather_logits(of.comm(), of.step({&chunk, 1}), of.ranks(), vocab);
  };
  const auto step = static_cast<std::size_t>(model.limits().max_tokens);
  for (std::size_t begin = 0; begin + 1 < ids.size(); begin += step) {
    const auto some = ids.subspan(begin, std::min(step, ids.size() - 1 - begin));
    const Buffer<float> rows = rows_of(model, some);
    const Buffer<float> of_reference = reference != nullptr ? rows_of(*reference, some) : Buffer<float>();
    for (std::size_t i = 0; i < some.size(); ++i) {
      const auto row_in = [&](const Buffer<float>& of) {
        return std::span<const float>(of.data() + static_cast<index_t>(i) * vocab, static_cast<std::size_t>(vocab));
      };
      add_surprise(score, row_in(rows), ids[begin + i + 1]);
      if (reference != nullptr) add_divergence(score, row_in(rows), row_in(of_reference));
    }
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
