// Prefill with the policies chosen at compile time: one source, one target for each combination. The whole program is
// the type in the first lines of main; everything else is input and output.
//   mpiexec.mpich -n 2 build/examples/example_qwen3_prefill_headwise_online --model examples/demo-model --input-ids
//   1,2,3
#include <fmt/format.h>

#include <tessera/io/hf_config.hpp>
#include <tessera/models/transformer.hpp>
#include <tessera/parallel/cores.hpp>
#include <tessera/runtime/load_weights.hpp>

#include "program/command_line.hpp"
#include "program/frame.hpp"
#include "program/session.hpp"

using namespace tessera;

int main(int argc, char** argv) {
  using Model = Transformer<TESSERA_EXAMPLE_SHARDING, TESSERA_EXAMPLE_SOFTMAX, XsimdBackend<>>;

  return program::run(argc, argv, TESSERA_EXAMPLE_NAME, [&](Communicator comm) {
    CLI::App app("Prefill with " TESSERA_EXAMPLE_NAME "'s policies");
    std::string folder;
    program::PromptOptions prompt;
    app.add_option("--model", folder, "Folder with config.json and model.safetensors")->required();
    program::add_prompt_options(app, prompt);
    if (const auto status = program::parse(comm, app, argc, argv)) return *status;

    program::ModelOptions options;
    options.model = folder;
    const program::Opened opened = program::open_model(comm, options, prompt.has_text);
    const std::vector<token_t> ids = program::prompt_ids(comm, opened, options, prompt, 0, false);
    const auto length = static_cast<index_t>(ids.size());

    Model model(comm, opened.config, opened.weights,
                {.limits = {.max_tokens = length, .max_positions = length}, .threads = default_threads(comm.size())});
    token_t next = 0;
    Argmax()(comm, prefill(model, 0, ids, [](index_t) {}), {&next, 1});
    if (comm.rank() == 0) fmt::print("prompt_tokens: {}\nnext_token: {}\n", length, next);
    return 0;
  });
}
