// tessera perplexity --model DIR --file TEXT: how well a model foretells a text, and what fewer bits cost it.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <tessera/comm/agree.hpp>
#include <tessera/core/open_file.hpp>
#include <tessera/runtime/load_weights.hpp>

#include "commands.hpp"
#include "program/session.hpp"
#include "program/text_score.hpp"
#include "progress.hpp"

namespace tessera::tools {

namespace {

struct PerplexityOptions {
  program::ModelOptions model;
  std::string file;
  std::string separator;
  std::string reference;  // a folder whose stored weights the model is held against
  index_t context = 512;
  index_t documents = 0;  // 0: all
};

/// Documents as ids, in pieces of at most `context` tokens; a piece of one token foretells nothing.
std::vector<std::vector<token_t>> scored_pieces(const PerplexityOptions& options, const program::Opened& opened,
                                                const std::string& text) {
  std::vector<std::string> documents = program::documents_of(text, options.separator);
  if (options.documents > 0 && std::ssize(documents) > options.documents)
    documents.resize(static_cast<std::size_t>(options.documents));
  std::vector<std::vector<token_t>> pieces;
  const auto step = static_cast<std::ptrdiff_t>(options.context);
  for (const std::string& document : documents) {
    const std::vector<token_t> ids = opened.tokenizer->encode(document);
    for (std::ptrdiff_t begin = 0; std::ssize(ids) - begin >= 2; begin += step)
      pieces.emplace_back(ids.begin() + begin, ids.begin() + std::min(begin + step, std::ssize(ids)));
  }
  require(!pieces.empty(), options.file, ": expected a text of two tokens or more, found less");
  return pieces;
}

int perplexity(const Communicator& comm, const PerplexityOptions& options) {
  const program::Opened opened = program::open_model(comm, options.model, true);
  constexpr index_t largest = index_t{1} << 30;
  const std::string text = program::text_of_first(comm, [&] { return read_text(options.file, largest); });
  const auto pieces = agree(comm, [&] {
    require(options.context <= opened.config.max_positions, "--context: the model has ", opened.config.max_positions,
            " positions, found ", options.context);
    return scored_pieces(options, opened, text);
  });
  const auto model =
      program::make_model(comm, opened, options.model, options.context, options.context, 1, nullptr, Wanted::all).model;
  std::optional<program::Opened> opened_reference;
  std::unique_ptr<AnyModel> reference;
  if (!options.reference.empty()) {
    program::ModelOptions stored = options.model;
    stored.model = options.reference;
    stored.weights = "stored", stored.lm_head = "", stored.compute = "f32";
    stored.kv_cache = "f32", stored.quiet = true;
    opened_reference = program::open_model(comm, stored, false);
    agree(comm, [&] {
      require(opened_reference->config.vocab == opened.config.vocab, options.reference, ": expected a vocabulary of ",
              opened.config.vocab, " tokens, as ", options.model.model, " has, found ", opened_reference->config.vocab);
    });
    reference =
        program::make_model(comm, *opened_reference, stored, options.context, options.context, 1, nullptr, Wanted::all)
            .model;
  }
  const bool speaks = comm.rank() == 0;
  index_t total = 0;
  for (const auto& piece : pieces) total += std::ssize(piece) - 1;
  Progress progress("perplexity", total, tokens);
  program::TextScore score;
  for (const auto& piece : pieces) {
    program::add_document(score, *model, reference.get(), piece);
    progress.advance_to(score.tokens);
    if (speaks && !options.model.quiet) progress.show();
  }
  if (speaks) progress.finish();
  program::end_run(*model, opened, options.model);
  if (reference) require_unchanged(comm, opened_reference->weights);
  if (!speaks) return 0;
  fmt::print("tokens: {}\nperplexity: {:.5f}\n", score.tokens, score.perplexity());
  if (reference)
    fmt::print("KL divergence: {:.6f} nats a token\ntop-1 agreement: {:.3f} %\n", score.mean_divergence(),
               100 * score.agreement());
  return 0;
}

}  // namespace

void add_perplexity(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("perplexity", "Say how well a model foretells a text");
  const auto options = std::make_shared<PerplexityOptions>();
  program::add_model_options(*command, options->model);
  command->add_option("--file", options->file, "The text")->required()->type_name("FILE");
  command
      ->add_option("--split-at", options->separator,
                   "Where this stands a document begins, which is read from an empty cache (default: one document)")
      ->type_name("TEXT");
  command->add_option("--documents", options->documents, "Read so many documents only (default: all)")
      ->check(CLI::Range(index_t{1}, index_t{1} << 30))
      ->type_name("N");
  command->add_option("--context", options->context, "Tokens that are read from an empty cache at most")
      ->check(CLI::Range(index_t{2}, index_t{1} << 30))
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--against", options->reference,
                   "A folder whose weights, as stored and in f32 with an f32 cache, foretell the same: prints how far "
                   "they are apart")
      ->type_name("DIR");
  command->footer(
      "Every token but the first of a document, or of a piece of --context tokens, is foretold from those before it.\n"
      "The perplexity is exp of the mean of -log p.\n\n"
      "  tessera perplexity --model DIR --file text.txt\n"
      "  mpiexec.mpich -n 2 tessera perplexity --model DIR --weights int4 --kv-cache int8 --against DIR --file "
      "text.txt");
  command->callback(
      [options, &action] { action = [options](const Communicator& comm) { return perplexity(comm, *options); }; });
}

}  // namespace tessera::tools
