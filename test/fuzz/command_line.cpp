// A command line, an argument per line: what every program with a model does with it before it opens anything.
#include "target.hpp"

#include "program/combinations.hpp"
#include "program/model_options.hpp"
#include "program/sampling_options.hpp"

using namespace tessera;

namespace tessera::program {

/// The names that are shipped; what they make is not needed to parse them.
const std::vector<Combination>& shipped_combinations() {
  static const std::vector<Combination> table = {
      {"headwise", "headwise", "online_softmax", "native", {}, nullptr},
      {"headwise", "helix", "online_softmax", "native", {}, nullptr},
      {"sequence", "sequence", "online_softmax", "native", {}, nullptr},
      {"sequence x headwise", "headwise", "online_softmax", "native", {}, nullptr},
      {"headwise", "headwise", "standard", "scalar", {}, nullptr}};
  return table;
}

}  // namespace tessera::program

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::string> arguments;  // the last one first, as CLI11 takes them
  std::string argument;
  for (std::size_t i = 0; i < size; ++i) {
    if (data[i] != '\n') {
      argument += static_cast<char>(data[i]);
      continue;
    }
    arguments.insert(arguments.begin(), std::exchange(argument, {}));
  }
  fuzz::parse([&] {
    CLI::App app("fuzz");
    program::ModelOptions model;
    program::PromptOptions prompt;
    program::SamplingOptions sampling;
    program::add_model_options(app, model);
    program::add_prompt_options(app, prompt, true);
    program::add_sampling_options(app, sampling);
    try {
      app.parse(arguments);
    } catch (const CLI::ParseError&) {
      return;
    }
    fuzz::expect(model.threads >= 0 && model.chunk >= 1 && model.timeout >= 0, "numbers are in their ranges");
    if (prompt.as_ids()) (void)program::parse_ids("--input-ids", prompt.ids);
    (void)program::chosen_formats(model);
    (void)program::description(program::chosen_sampling(sampling, {}));
    const program::Policies policies = program::chosen_policies(model, 4);
    fuzz::expect(policies.combination != nullptr && policies.inner >= 1, "policies that are chosen are there");
    fuzz::expect(policies.shares.empty() || policies.shares.size() == 4, "every rank has a share");
  });
  return 0;
}
