#include "program/model_options.hpp"

#include <charconv>
#include <string_view>

#include "program/combinations.hpp"

namespace tessera::program {

void add_model_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--model", options.model, "Folder with config.json and model.safetensors")
      ->required()
      ->type_name("DIR");
  app.add_option("--parallel-strategy", options.parallel_strategy, "How the ranks split the model")
      ->check(CLI::IsMember(names_of(Shardings{})))
      ->capture_default_str();
  app.add_option("--attention-algo", options.attention_algo, "How attention weighs its keys")
      ->check(CLI::IsMember(names_of(Softmaxes{})))
      ->capture_default_str();
  app.add_option("--simd", options.simd, "native: the instruction set compiled for; scalar: the reference")
      ->check(CLI::IsMember({"native", "scalar"}))
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

const Combination& chosen_combination(const ModelOptions& options) {
  for (const Combination& row : shipped_combinations())
    if (row.sharding == options.parallel_strategy && row.softmax == options.attention_algo &&
        row.backend == options.simd)
      return row;
  fail("no combination of --parallel-strategy ", options.parallel_strategy, ", --attention-algo ",
       options.attention_algo, " and --simd ", options.simd, " is shipped");
}

}  // namespace tessera::program
