#include "program/model_options.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <tessera/comm/agree.hpp>

#include "program/combinations.hpp"

namespace tessera::program {

namespace {

/// One of the names of every row of the table, each once, in order.
std::vector<std::string> names_of(std::string_view Combination::*name) {
  std::vector<std::string> names;
  for (const Combination& row : shipped_combinations())
    if (std::find(names.begin(), names.end(), row.*name) == names.end()) names.emplace_back(row.*name);
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

void add_model_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--model", options.model, "Folder with config.json and model.safetensors")
      ->required()
      ->type_name("DIR");
  app.add_option("--parallel-strategy", options.parallel_strategy,
                 "How the ranks split the model: " + joined(names_of(&Combination::sharding)) +
                     "; OUTER:NxINNER:M for N groups of M neighbours, e.g. sequence:2xheadwise:2")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--decode-strategy", options.decode_strategy,
                 "headwise: the KV cache by heads; helix: striped by position (default: as the strategy has it)")
      ->check(CLI::IsMember(names_of(&Combination::decode)))
      ->type_name("NAME");
  app.add_option("--shares", options.shares, "How the ranks share the work, e.g. 3,1 (default: equally)")
      ->type_name("LIST");
  app.add_option("--attention-algo", options.attention_algo, "How attention weighs its keys")
      ->check(CLI::IsMember(names_of(&Combination::softmax)))
      ->capture_default_str();
  app.add_option("--simd", options.simd, "native: the instruction set compiled for; scalar: the reference")
      ->check(CLI::IsMember(names_of(&Combination::backend)))
      ->capture_default_str();
  app.add_option("--threads", options.threads,
                 "Threads of each rank (default: OMP_NUM_THREADS, or the cores that the rank may use)")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  app.add_option("--chunk", options.chunk, "Tokens that prefill takes at a time")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--timeout-collective", options.timeout,
                 "Seconds that a rank waits for the others before the job ends with an error; 0: for ever")
      ->check(CLI::NonNegativeNumber)
      ->type_name("SECONDS")
      ->capture_default_str();
}

void add_prompt_options(CLI::App& app, PromptOptions& options) {
  auto* text = app.add_option("--prompt", options.text, "The text to begin with")->type_name("TEXT");
  auto* ids = app.add_option("--input-ids", options.ids, "Token ids in place of a text, e.g. 1,2,3; needs no tokenizer")
                  ->type_name("IDS")
                  ->excludes(text);
  app.parse_complete_callback([&app, &options, text, ids] {
    options.has_text = text->count() > 0;
    if (text->count() + ids->count() == 0) throw CLI::RequiredError("--prompt TEXT or --input-ids IDS");
    static_cast<void>(app);
  });
}

std::vector<token_t> parse_ids(const std::string& text) {
  std::vector<token_t> ids;
  std::string_view rest = text;
  while (!rest.empty() || ids.empty() || text.back() == ',') {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    std::string_view piece = rest.substr(0, comma);
    while (!piece.empty() && piece.front() == ' ') piece.remove_prefix(1);
    while (!piece.empty() && piece.back() == ' ') piece.remove_suffix(1);
    token_t id = 0;
    const auto [end, error] = std::from_chars(piece.data(), piece.data() + piece.size(), id);
    require(error == std::errc{} && end == piece.data() + piece.size() && !piece.empty(),
            "--input-ids: expected ids such as 1,2,3; found \"", piece, "\" as number ", ids.size() + 1);
    ids.push_back(id);
    if (comma == rest.size()) break;
    rest.remove_prefix(comma + 1);
  }
  return ids;
}

namespace {

/// "sequence:2xheadwise:4": the name "sequence x headwise", and 2 and 4.
struct StrategyName {
  std::string name;
  index_t outer = 0;  ///< 0: a strategy of one dimension
  index_t inner = 1;
};

index_t group_size(std::string_view text, const std::string& whole) {
  index_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || end != text.data() + text.size() || n < 1)
    throw UsageError(
        concat("--parallel-strategy: expected OUTER:NxINNER:M such as sequence:2xheadwise:2, found ", whole));
  return n;
}

StrategyName parse_strategy(const std::string& text) {
  const std::size_t first = text.find(':');
  if (first == std::string::npos) return {text};
  const std::size_t cross = text.find('x', first);
  const std::size_t second = text.find(':', cross == std::string::npos ? text.size() : cross);
  if (cross == std::string::npos || second == std::string::npos)
    throw UsageError(
        concat("--parallel-strategy: expected OUTER:NxINNER:M such as sequence:2xheadwise:2, found ", text));
  const std::string_view all = text;
  StrategyName strategy;
  strategy.name = concat(all.substr(0, first), " x ", all.substr(cross + 1, second - cross - 1));
  strategy.outer = group_size(all.substr(first + 1, cross - first - 1), text);
  strategy.inner = group_size(all.substr(second + 1), text);
  return strategy;
}

std::vector<double> parse_shares(const std::string& text, index_t ranks) {
  std::vector<double> shares;
  for (std::size_t at = 0; !text.empty() && at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    double share = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + comma, share);
    if (error != std::errc{} || end != text.data() + comma || !(share >= 0) || share > 1e9)
      throw UsageError(concat("--shares: expected numbers such as 3,1; found \"", text.substr(at, comma - at), '"'));
    shares.push_back(share);
    at = comma + 1;
  }
  if (!shares.empty() && static_cast<index_t>(shares.size()) != ranks)
    throw UsageError(concat("--shares: expected one for each of ", ranks, " ranks, found ", shares.size()));
  if (!shares.empty() && *std::max_element(shares.begin(), shares.end()) == 0)
    throw UsageError("--shares: expected one above 0 at least");
  return shares;
}

}  // namespace

Policies chosen_policies(const ModelOptions& options, index_t ranks) {
  const StrategyName strategy = parse_strategy(options.parallel_strategy);
  Policies policies;
  policies.inner = strategy.inner;
  policies.shares = parse_shares(options.shares, ranks);
  const bool hybrid = strategy.outer != 0;
  if (hybrid && strategy.outer * strategy.inner != ranks)
    throw UsageError(concat("--parallel-strategy ", options.parallel_strategy, ": expected ",
                            strategy.outer * strategy.inner, " ranks, found ", ranks));
  if (hybrid && !policies.shares.empty()) throw UsageError("--shares: a hybrid strategy shares equally");
  std::string decodes;
  for (const Combination& row : shipped_combinations()) {
    if (row.sharding != strategy.name || row.softmax != options.attention_algo || row.backend != options.simd) continue;
    if (!policies.combination && (options.decode_strategy.empty() || row.decode == options.decode_strategy))
      policies.combination = &row;
    decodes += concat(decodes.empty() ? "" : ", ", row.decode);
  }
  if (decodes.empty() || (!hybrid && strategy.name.find(' ') != std::string::npos))
    throw UsageError(concat("--parallel-strategy: ", options.parallel_strategy, " is not among ",
                            joined(names_of(&Combination::sharding))));
  if (!policies.combination)
    throw UsageError(concat("--decode-strategy: ", strategy.name, " is shipped with ", decodes, ", found ",
                            options.decode_strategy));
  return policies;
}

}  // namespace tessera::program
