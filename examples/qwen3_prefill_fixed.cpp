// Prefill with the policies chosen at compile time: one source, one target for each combination. The whole program is
// the type in the first lines of main; everything else is input and output.
//   mpiexec.mpich -n 2 build/examples/example_qwen3_prefill_headwise_online --model examples/demo-model --input-ids
//   1,2,3
#include <fmt/format.h>

#include <tessera/simd/isa.hpp>
#include <tessera/tessera.hpp>

#include "program/command_line.hpp"
#include "program/frame.hpp"
#include "program/session.hpp"

using namespace tessera;

int main(int argc, char** argv) {
  using Sharding = TESSERA_EXAMPLE_SHARDING;
  using Softmax = TESSERA_EXAMPLE_SOFTMAX;
  using Model = Transformer<Sharding, Softmax, XsimdBackend<>>;

  return program::run(argc, argv, TESSERA_EXAMPLE_NAME, [&](Communicator comm) {
    CLI::App app("Prefill with " TESSERA_EXAMPLE_NAME "'s policies");
    program::ModelOptions options;
    program::PromptOptions prompt;
    program::add_run_options(app, options);
    program::add_prompt_options(app, prompt);
    if (const auto status = program::parse(comm, app, argc, argv)) return *status;

    options.parallel_strategy = Sharding::name;
    const program::Opened opened = program::open_model(comm, options, prompt.has_text);
    const std::vector<token_t> ids = program::prompt_ids(comm, opened, options, prompt, 0);
    const auto length = static_cast<index_t>(ids.size());

    const program::RankSetup setup = program::set_up_ranks(comm, options, opened.placement);
    ModelOf<Model> model(setup.comm, opened.config, opened.weights,
                         TransformerOptions{.limits = {.max_tokens = std::min(options.chunk, length),
                                                       .max_positions = length,
                                                       .cache = program::chosen_cache(options)},
                                            .threads = setup.threads,
                                            .overlap = setup.overlap});
    program::report(model, options, setup,
                    fmt::format("sharding {}, softmax {}, simd {}", Sharding::name, Softmax::name, compiled_isa()));
    token_t next = 0;
    Argmax()(comm, prefill(model, 0, ids, [](index_t) {}), {&next, 1});
    program::end_run(model, opened, options);
    if (comm.rank() == 0) fmt::print("prompt_tokens: {}\nnext_token: {}\n", length, next);
    return 0;
  });
}
