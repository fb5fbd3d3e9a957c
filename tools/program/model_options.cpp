#include "program/model_options.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <tessera/comm/agree.hpp>
#include <tessera/parallel/cores.hpp>
#include <tessera/simd/bf16_pairs.hpp>

#include "program/combinations.hpp"
#include "program/finite_range.hpp"

namespace tessera::program {

namespace {

/// One of the names of every row of the table, each once, in order.
std::vector<std::string> names_of(std::string_view Combination::*name) {
  std::vector<std::string> names;
  for (const Combination& row : shipped_combinations())
    if (std::find(names.begin(), names.end(), row.*name) == names.end()) names.emplace_back(row.*name);
  return names;
}

/// The strategies as they are typed: a hybrid, "sequence x headwise", is sequence:Nxheadwise:M.
std::vector<std::string> typed_strategies() {
  std::vector<std::string> names = names_of(&Combination::sharding);
  for (std::string& name : names)
    if (const std::size_t cross = name.find(" x "); cross != std::string::npos) name.replace(cross, 3, ":Nx") += ":M";
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

void add_sharding_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--parallel-strategy", options.parallel_strategy,
                 "How the ranks split the model: " + joined(typed_strategies()) +
                     "; N groups of M neighbours, e.g. sequence:2xheadwise:2")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--decode-strategy", options.decode_strategy,
                 "headwise: the KV cache by heads; helix: striped by position (default: as the strategy has it)")
      ->check(CLI::IsMember(names_of(&Combination::decode)))
      ->type_name("NAME");
  app.add_option("--shares", options.shares, "How the ranks share the work, e.g. 3,1 (default: equally)")
      ->type_name("LIST");
}

void add_model_options(CLI::App& app, ModelOptions& options) {
  add_run_options(app, options);
  app.add_flag("--copy-weights", options.copy_weights,
               "Each rank copies the weights that decode reads into memory of its own, on huge pages: more memory, and "
               "more tokens per second where those of the mapped file are small");
  add_sharding_options(app, options);
  app.add_option("--attention-algo", options.attention_algo, "How attention weighs its keys")
      ->check(CLI::IsMember(names_of(&Combination::softmax)))
      ->capture_default_str();
  app.add_option("--simd", options.simd, "native: the instruction set compiled for; scalar: the reference")
      ->check(CLI::IsMember(names_of(&Combination::backend)))
      ->capture_default_str();
}

void add_weight_options(CLI::App& app, ModelOptions& options) {
  const auto formats = CLI::IsMember({Stored::name.data(), Int8Blocks::name.data(), Int4Blocks::name.data()});
  app.add_option("--weights", options.weights, "Convert the weights of the layers at load")
      ->check(formats)
      ->capture_default_str();
  app.add_option("--lm-head", options.lm_head, "The same for lm_head (default: as --weights)")->check(formats);
  app.add_option("--arithmetic", options.arithmetic,
                 "What products with weights in blocks are computed in; int8 rounds activations to 8 bits in blocks of "
                 "32, f32 widens the weights")
      ->check(CLI::IsMember({"int8", "f32"}))
      ->capture_default_str();
}

void add_cache_option(CLI::App& app, ModelOptions& options) {
  app.add_option("--kv-cache", options.kv_cache,
                 "What keys and values are stored as; int8 has a scale for each head and position")
      ->check(CLI::IsMember({F32Heads::name.data(), Bf16Heads::name.data(), Int8Heads::name.data()}))
      ->capture_default_str();
}

void add_run_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--model", options.model, "Folder with config.json and model.safetensors")
      ->required()
      ->type_name("DIR");
  add_weight_options(app, options);
  add_cache_option(app, options);
  app.add_option("--compute", options.compute,
                 "What products with bf16 weights are computed in; bf16 rounds activations to it, and is faster for "
                 "prompts where the processor multiplies bf16")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--threads", options.threads,
                 "Threads of each rank (default: OMP_NUM_THREADS, or the cores that the rank may use)")
      ->check(CLI::Range(1, most_threads))
      ->type_name("N");
  app.add_option("--chunk", options.chunk, "Tokens that prefill takes at a time")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--collectives", options.collectives,
                 "What carries data between ranks. mpi; shm: shared memory on one machine, and MPI between machines; "
                 "auto: the faster of these for each kind and size, measured at start; all three give the same bits. "
                 "mpi-own: MPI sums in an order of its own, which may depend on layout and size")
      ->check(CLI::IsMember({"auto", "mpi", "shm", "mpi-own"}))
      ->capture_default_str();
  app.add_option(
         "--wire", options.wire,
         "How sums and gathered activations travel: f32 exactly; bf16 in half, q8 in 28 % of the bytes, with an "
         "error that is printed at the end")
      ->check(CLI::IsMember({"f32", "bf16", "q8"}))
      ->capture_default_str();
  app.add_option("--overlap", options.overlap,
                 "on: prefill hides what travels behind what is computed (headwise and headwise_scattered: two "
                 "micro-batches; sequence_ring: the next block); auto: on between machines, where it gains")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  app.add_option(
         "--binding", options.binding,
         "auto: ranks of one machine take cores of their own, unless the launcher bound them; none: they do not")
      ->check(CLI::IsMember({"auto", "none"}))
      ->capture_default_str();
  app.add_option("--timeout-collective", options.timeout,
                 "Seconds that a rank waits for the others before the job ends with an error; 0: for ever")
      ->check(finite_range(0, 1e9))
      ->type_name("SECONDS")
      ->capture_default_str();
  app.add_flag("--ignore-memory", options.ignore_memory,
               "Start even where the machine has less free memory than the ranks will take");
  app.add_flag("--quiet", options.quiet, "Say nothing on standard error but errors");
}

void add_prompt_options(CLI::App& app, PromptOptions& options, bool with_file) {
  auto* text = app.add_option("--prompt", options.text, "The text to begin with")->type_name("TEXT");
  auto* ids = app.add_option("--input-ids", options.ids, "Token ids in place of a text, e.g. 1,2,3; needs no tokenizer")
                  ->type_name("IDS")
                  ->excludes(text);
  CLI::Option* file = nullptr;
  if (with_file)
    file = app.add_option("--prompt-file", options.file, "Many texts to begin with, a line each")
               ->type_name("FILE")
               ->excludes(text)
               ->excludes(ids);
  app.parse_complete_callback([&options, text, ids, file] {
    const bool from_file = file != nullptr && file->count() > 0;
    options.has_text = text->count() > 0 || from_file;
    if (!options.has_text && ids->count() == 0)
      throw CLI::RequiredError(file == nullptr ? "--prompt TEXT or --input-ids IDS"
                                               : "--prompt TEXT, --prompt-file FILE or --input-ids IDS");
  });
}

std::vector<token_t> parse_ids(std::string_view option, const std::string& text) {
  std::vector<token_t> ids;
  std::string_view rest = text;
  while (!rest.empty() || ids.empty() || text.back() == ',') {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    std::string_view piece = rest.substr(0, comma);
    while (!piece.empty() && piece.front() == ' ') piece.remove_prefix(1);
    while (!piece.empty() && piece.back() == ' ') piece.remove_suffix(1);
    token_t id = 0;
    const auto [end, error] = std::from_chars(piece.data(), piece.data() + piece.size(), id);
    if (error != std::errc{} || end != piece.data() + piece.size() || piece.empty())
      throw UsageError(
          concat(option, ": expected ids such as 1,2,3; found \"", piece, "\" as number ", ids.size() + 1));
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

/// Far above any job, so that a product of two is still a number.
constexpr index_t most_ranks = 1 << 24;

index_t group_size(std::string_view text, const std::string& whole) {
  index_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc{} || end != text.data() + text.size() || n < 1 || n > most_ranks)
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

WeightFormats chosen_formats(const ModelOptions& options) {
  WeightFormats formats{.layers = options.weights,
                        .lm_head = options.lm_head,
                        .arithmetic = options.arithmetic == "int8" ? Arithmetic::int8 : Arithmetic::f32};
  if (options.compute == "bf16") {
    if (options.simd != "native" || !MultipliesBf16<XsimdBackend<>>)
      throw UsageError(concat("--compute bf16: expected a backend with products of bf16 (AVX512-BF16), found ",
                              options.simd == "native" ? compiled_isa() : options.simd, "; leave the option out"));
    formats.stored = Arithmetic::bf16;
  }
  return formats;
}

CacheType chosen_cache(const ModelOptions& options) { return cache_type_named(options.kv_cache); }

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
    throw UsageError(
        concat("--parallel-strategy: ", options.parallel_strategy, " is not among ", joined(typed_strategies())));
  if (!policies.combination)
    throw UsageError(concat("--decode-strategy: ", strategy.name, " is shipped with ", decodes, ", found ",
                            options.decode_strategy));
  return policies;
}

}  // namespace tessera::program
