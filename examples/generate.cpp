// Writes text, one token after another, on any number of ranks:
//   mpiexec.mpich -n 2 build/examples/example_generate --model examples/demo-model --chat --prompt tessera
#include <fmt/format.h>

#include "program/command_line.hpp"
#include "program/frame.hpp"
#include "program/session.hpp"
#include "program/text_stream.hpp"

using namespace tessera;

int main(int argc, char** argv) {
  return program::run(argc, argv, "example_generate", [&](Communicator comm) {
    CLI::App app("Greedy generation: a prompt in, text out as it is made");
    program::ModelOptions options;
    program::PromptOptions prompt;
    index_t max_new_tokens = 0;
    bool chat = false, print_ids = false;
    std::string dump;
    program::add_model_options(app, options);
    program::add_prompt_options(app, prompt);
    app.add_option("--max-new-tokens", max_new_tokens,
                   "Stop after so many tokens (default: 128, or what the model has room for)")
        ->check(CLI::Range(index_t{1}, index_t{1} << 30))
        ->type_name("N");
    app.add_flag("--chat", chat, "Wrap the prompt as the model's chat template does")
        ->excludes(app.get_option("--input-ids"));
    app.add_flag("--print-ids", print_ids, "Print the generated ids as a JSON array on the last line");
    app.add_option("--dump-logits", dump,
                   "Write the prompt's logits f32 [T, V] and input_ids to this safetensors file");
    app.footer("mpiexec.mpich -n 2 example_generate --model examples/demo-model --chat --prompt tessera");
    if (const auto status = program::parse(comm, app, argc, argv)) return *status;

    const program::Opened opened = program::open_model(comm, options, prompt.has_text);
    const program::ChatStyle style;
    const std::vector<token_t> ids = program::prompt_ids(comm, opened, options, prompt,
                                                         std::max(max_new_tokens, index_t{1}), chat ? &style : nullptr);
    const auto length = static_cast<index_t>(ids.size());
    if (max_new_tokens == 0) max_new_tokens = std::min(index_t{128}, opened.config.max_positions - length);
    const auto model = program::make_model(comm, opened, options, length + max_new_tokens, length, 1, nullptr,
                                           dump.empty() ? Wanted::last : Wanted::all)
                           .model;

    if (!dump.empty()) {
      static_cast<void>(program::dump_logits(*model, ids, dump));
      model->truncate(0, 0);
    }
    const std::int64_t start = trace_clock();
    const auto show = [&](const std::string& text) {
      if (comm.rank() == 0) fmt::print("{}", text), std::fflush(stdout);
    };
    double first_token = 0;
    const auto seconds = [&] { return static_cast<double>(trace_clock() - start) / 1e9; };
    std::vector<token_t> generated;
    program::TextStream stream(opened.tokenizer ? &*opened.tokenizer : nullptr, model->config().eos_token_ids);
    generate_greedily(*model, 0, ids, max_new_tokens, [&](token_t id) {
      if (generated.empty()) first_token = seconds();
      generated.push_back(id);
      show(stream.push(id));
      return !stream.ended();
    });
    if (prompt.has_text) show(stream.flush() + "\n");
    const double total = seconds();

    program::end_run(*model, opened, options);
    if (comm.rank() == 0) {
      if (print_ids || !prompt.has_text) fmt::print("[{}]\n", fmt::join(generated, ","));
      fmt::print(stderr, "world_size: {}\ngenerated_tokens: {}\nseconds: {:.3f}, the first token after {:.3f}",
                 comm.size(), generated.size(), total, first_token);
      if (generated.size() > 1)
        fmt::print(stderr, ", then {:.1f} tok/s", static_cast<double>(generated.size() - 1) / (total - first_token));
      fmt::print(stderr, "\n");
    }
    return 0;
  });
}
