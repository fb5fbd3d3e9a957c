// tessera generate: prompts in, text out as it is made, on any number of ranks.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <tessera/comm/agree.hpp>
#include <tessera/io/atomic_file.hpp>
#include <tessera/io/json.hpp>
#include <tessera/runtime/trace_file.hpp>

#include "commands.hpp"
#include "loading.hpp"
#include "program/run_times.hpp"
#include "program/sampling_options.hpp"
#include "program/session.hpp"
#include "program/text_stream.hpp"
#include "progress.hpp"

namespace tessera::tools {

namespace {

struct GenerateOptions {
  program::ModelOptions model;
  program::PromptOptions prompt;
  program::SamplingOptions sampling;
  program::ChatStyle style;
  index_t max_new_tokens = 0;  // 0: 128, or what there is room for
  index_t batch_size = 1;
  std::vector<std::string> stops;
  std::string dump_logits;
  std::string trace;
  bool chat = false;
  bool ignore_eos = false;
  bool print_ids = false;
};

/// One prompt's text, on rank 0's standard output: a single one as it is made, of many each as a line of JSON, in the
/// order of the prompts.
class Output {
 public:
  Output(std::size_t prompts, bool speaks, const program::TextStream& stream, bool show_text, bool show_ids)
      : speaks_(speaks), show_text_(show_text), show_ids_(show_ids) {
    for (std::size_t n = 0; n < prompts; ++n) texts_.push_back({stream, {}, {}, false});
  }

  /// Takes a token; false when it ends the text.
  bool push(std::size_t n, token_t id) {
    Text& text = texts_[n];
    text.ids.push_back(id);
    add(text, text.stream.push(id));
    if (text.stream.ended()) finish(n);
    return !text.stream.ended();
  }

  /// Ends the texts that nothing else has ended.
  void finish_all() {
    for (std::size_t n = 0; n < texts_.size(); ++n) finish(n);
  }

 private:
  struct Text {
    program::TextStream stream;
    std::string text;
    std::vector<token_t> ids;
    bool finished;
  };

  [[nodiscard]] bool streams() const { return texts_.size() == 1; }

  void add(Text& text, const std::string& piece) {
    if (!streams()) text.text += piece;
    if (streams() && speaks_ && show_text_) fmt::print("{}", piece), std::fflush(stdout);
  }

  void finish(std::size_t n) {
    if (texts_[n].finished) return;
    texts_[n].finished = true;
    add(texts_[n], texts_[n].stream.flush());
    for (; shown_ < texts_.size() && texts_[shown_].finished; ++shown_)
      if (speaks_) show(texts_[shown_]);
  }

  void show(const Text& text) const {
    if (show_text_) fmt::print("{}\n", streams() ? "" : Json(text.text).dump());
    if (show_ids_) fmt::print("[{}]\n", fmt::join(text.ids, ","));
    std::fflush(stdout);
  }

  std::vector<Text> texts_;
  std::size_t shown_ = 0;
  bool speaks_, show_text_, show_ids_;
};

int generate(Communicator comm, const GenerateOptions& options) {
  const bool speaks = comm.rank() == 0;
  const bool with_text = options.prompt.has_text;
  const Sampling sampling = agree(comm, [&] {
    if (!with_text && !options.stops.empty()) throw UsageError("--stop needs a text: give --prompt");
    if (!options.dump_logits.empty() && !options.prompt.file.empty())
      throw UsageError("--dump-logits takes one prompt: give --prompt or --input-ids");
    // Known before the work is done.
    for (const std::string& file : {options.trace, options.dump_logits})
      if (speaks && !file.empty()) static_cast<void>(AtomicFile(file));
    return program::chosen_sampling(options.sampling, read_generation_config(options.model.model));
  });
  const program::Opened opened = program::open_model(comm, options.model, with_text);
  const auto prompts =
      program::all_prompt_ids(comm, opened, options.model, options.prompt, std::max<index_t>(options.max_new_tokens, 1),
                              options.chat ? &options.style : nullptr);
  index_t longest = 0, prompt_tokens = 0;
  for (const std::vector<token_t>& prompt : prompts) {
    longest = std::max(longest, static_cast<index_t>(prompt.size()));
    prompt_tokens += static_cast<index_t>(prompt.size());
  }
  index_t max_new_tokens = options.max_new_tokens;
  if (max_new_tokens == 0) max_new_tokens = std::min<index_t>(128, opened.config.max_positions - longest);
  const index_t sequences = std::min(options.batch_size, static_cast<index_t>(prompts.size()));
  std::optional<Trace> trace;
  if (!options.trace.empty()) trace.emplace(opened.placement.share.threads);
  const program::RecordedModel made = program::make_model(
      comm, opened, options.model, longest + max_new_tokens, sequences > 1 ? prompt_tokens : longest, sequences,
      trace ? &*trace : nullptr, options.dump_logits.empty() ? Wanted::last : Wanted::all);
  AnyModel& model = *made.model;
  std::optional<Progress> loading;
  load_into_memory(comm, opened.weights, program::ranks_here(comm) == comm.size(), [&](index_t done, index_t total) {
    if (options.model.quiet) return;
    if (!loading) loading.emplace("loading", total);
    loading->advance_to(done);
    loading->show();
  });
  if (loading) loading->finish();
  if (speaks && !options.model.quiet) fmt::print(stderr, "sampling: {}\n", program::description(sampling));
  if (!options.dump_logits.empty()) {
    static_cast<void>(program::dump_logits(model, prompts[0], options.dump_logits));
    model.truncate(0, 0);
  }

  Output output(
      prompts.size(), speaks,
      program::TextStream(opened.tokenizer ? &*opened.tokenizer : nullptr,
                          options.ignore_eos ? std::vector<token_t>{} : model.config().eos_token_ids, options.stops),
      with_text, options.print_ids || !with_text);
  std::optional<Progress> progress;
  if (speaks && !options.model.quiet) progress.emplace("reading the prompt", prompt_tokens, tokens);
  program::RunTimes times(*made.ledger);
  Sampler sampler(sampling);
  BatchGeneration generation(model, sampler, prompts, max_new_tokens);
  if (trace) trace->record(true);
  while (!generation.done()) {
    const bool reading = times.prefilled() < prompt_tokens;
    const StepCounts counts = times.measure([&] {
      return generation.step([&](std::size_t n, token_t id) {
        if (progress && prompts.size() == 1) {  // its line ends before the text begins
          progress->advance_to(prompt_tokens);
          progress->finish();
        }
        return output.push(n, id);
      });
    });
    if (!progress || !reading) continue;
    progress->add(counts.prompt_tokens);
    if (times.prefilled() < prompt_tokens)
      progress->show();
    else
      progress->finish();
  }
  output.finish_all();
  if (trace) {
    trace->record(false);
    write_trace(comm, *trace, options.trace);
  }
  program::end_run(model, opened, options.model);
  program::report_memory(model, opened, options.model);
  if (speaks && !options.model.quiet)
    fmt::print(stderr, "world_size: {}\ngenerated_tokens: {}\n{}\n", comm.size(), times.made(), times.summary());
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt, or many of them in batches");
  const auto options = std::make_shared<GenerateOptions>();
  program::add_model_options(*command, options->model);
  program::add_prompt_options(*command, options->prompt, true);
  command->add_option("--batch-size", options->batch_size, "Prompts of --prompt-file that run together")
      ->needs(command->get_option("--prompt-file"))
      ->check(CLI::Range(1, 1 << 16))
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--max-new-tokens", options->max_new_tokens,
                   "Stop after so many tokens (default: 128, or what the model has room for)")
      ->check(CLI::Range(index_t{1}, index_t{1} << 30))
      ->type_name("N");
  program::add_stop_option(*command, options->stops);
  command->add_flag("--ignore-eos", options->ignore_eos, "Go on after an end-of-text token");
  auto* chat = command->add_flag("--chat", options->chat, "Wrap the prompt as the model's chat template does")
                   ->excludes(command->get_option("--input-ids"));
  program::add_chat_style_options(*command, options->style);
  for (const char* style : {"--system", "--date", "--no-think"}) command->get_option(style)->needs(chat);
  program::add_sampling_options(*command, options->sampling);
  command->add_flag("--print-ids", options->print_ids, "Print the generated ids as a JSON array, in a line of its own");
  command
      ->add_option("--dump-logits", options->dump_logits,
                   "Write the prompt's logits f32 [T, V] and input_ids to this safetensors file")
      ->type_name("FILE");
  command->add_option("--trace", options->trace, "Write what every thread did, for ui.perfetto.dev, to this file")
      ->type_name("FILE");
  command->footer(
      "The text goes to standard output, everything else to standard error. With --prompt-file each line of output is\n"
      "a JSON string, the text of that line's prompt.\n\n"
      "  tessera generate --model examples/demo-model --chat --prompt tessera\n"
      "  mpiexec.mpich -n 2 tessera generate --model DIR --prompt 'Once upon a time' --temperature 0.8 --seed 7\n"
      "  tessera generate --model DIR --prompt-file prompts.txt --batch-size 8 --quiet > texts.jsonl");
  command->callback(
      [options, &action] { action = [options](const Communicator& comm) { return generate(comm, *options); }; });
}

}  // namespace tessera::tools
