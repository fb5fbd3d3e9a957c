// Runs a prompt through a model on any number of ranks and says which token comes next:
//   mpiexec.mpich -n 2 build/examples/example_qwen3_prefill --model examples/demo-model --prompt "a small square"
#include <fmt/format.h>

#include "program/command_line.hpp"
#include "program/frame.hpp"
#include "program/session.hpp"

using namespace tessera;

int main(int argc, char** argv) {
  return program::run(argc, argv, "example_qwen3_prefill", [&](Communicator comm) {
    CLI::App app("Prefill: a prompt in, the logits of its last token out");
    program::ModelOptions options;
    program::PromptOptions prompt;
    std::string dump;
    program::add_model_options(app, options);
    program::add_prompt_options(app, prompt);
    app.add_option("--dump-logits", dump, "Write logits f32 [T, V] and input_ids to this safetensors file");
    app.footer("mpiexec.mpich -n 4 example_qwen3_prefill --model DIR --prompt \"Hello\" --parallel-strategy sequence");
    if (const auto status = program::parse(comm, app, argc, argv)) return *status;

    const program::Opened opened = program::open_model(comm, options, prompt.has_text);
    const std::vector<token_t> ids = program::prompt_ids(comm, opened, options, prompt, 0);
    const auto length = static_cast<index_t>(ids.size());
    const auto model = program::make_model(comm, opened, options, length, length, 1, nullptr,
                                           dump.empty() ? Wanted::last : Wanted::all)
                           .model;

    const std::int64_t start = trace_clock();
    token_t next = 0;
    if (dump.empty()) {
      Argmax()(comm, prefill(*model, 0, ids, [](index_t) {}), {&next, 1});
    } else {
      next = program::dump_logits(*model, ids, dump);
    }
    const double seconds = static_cast<double>(trace_clock() - start) / 1e9;

    program::end_run(*model, opened, options);
    if (comm.rank() == 0) {
      fmt::print("prompt_tokens: {}\nnext_token: {}\n", length, next);
      if (opened.tokenizer) fmt::print("next_text: {}\n", opened.tokenizer->decode({&next, 1}));
      fmt::print(stderr, "prefill: {:.3f} s, {:.1f} tok/s\n", seconds, static_cast<double>(length) / seconds);
    }
    return 0;
  });
}
