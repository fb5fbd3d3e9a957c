// A command line, an argument per line: what every program with a model does with it before it opens anything.
#include "target.hpp"

#include <cmath>
#include <tuple>

#include "program/combinations.hpp"
#include "program/model_options.hpp"
#include "program/sampling_options.hpp"

using namespace tessera;

namespace tessera::program {

/// The names that are shipped; what they make is not needed to parse them.
const std::vector<Combination>& shipped_combinations() {
  static const std::vector<Combination> table = {
      {"headwise", "headwise", "online_softmax", "native", {}, nullptr, true},
      {"headwise", "helix", "online_softmax", "native", {}, nullptr, true},
      {"sequence", "sequence", "online_softmax", "native", {}, nullptr, true},
      {"sequence x headwise", "headwise", "online_softmax", "native", {}, nullptr, true},
      {"headwise", "headwise", "standard", "scalar", {}, nullptr, false}};
  return table;
}

}  // namespace tessera::program

namespace {

/// The program's command line; made once, for that takes longer than a parse.
class CommandLine {
 public:
  CommandLine() {
    program::add_model_options(app_, model);
    program::add_prompt_options(app_, prompt, true);
    program::add_sampling_options(app_, sampling);
  }

  /// Whether the arguments, the last one first, are understood.
  bool parse(std::vector<std::string> arguments) {
    model = {}, prompt = {}, sampling = {};
    try {
      app_.parse(std::move(arguments));
    } catch (const CLI::ParseError&) {
      return false;
    }
    return true;
  }

  program::ModelOptions model;
  program::PromptOptions prompt;
  program::SamplingOptions sampling;

 private:
  CLI::App app_{"fuzz"};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static CommandLine line;
  std::vector<std::string> arguments(1);
  for (const char c : std::string_view(reinterpret_cast<const char*>(data), size)) {
    if (c == '\n')
      arguments.emplace_back();
    else
      arguments.back() += c;
  }
  arguments.pop_back();  // what no line end is behind
  std::reverse(arguments.begin(), arguments.end());
  fuzz::parse([&] {
    if (!line.parse(std::move(arguments))) return;
    const auto& [model, prompt, sampling] = std::tie(line.model, line.prompt, line.sampling);
    fuzz::expect(model.threads >= 0 && model.chunk >= 1 && model.timeout >= 0, "numbers are in their ranges");
    for (const auto& number : {sampling.temperature, sampling.top_p, sampling.min_p, sampling.repetition_penalty})
      fuzz::expect(!number || std::isfinite(*number), "numbers of the sampling are numbers");
    if (prompt.as_ids()) (void)program::parse_ids("--input-ids", prompt.ids);
    (void)program::chosen_formats(model);
    (void)program::description(program::chosen_sampling(sampling, {}));
    const program::Policies policies = program::chosen_policies(model, 4);
    fuzz::expect(policies.combination != nullptr && policies.inner >= 1, "policies that are chosen are there");
    fuzz::expect(policies.shares.empty() || policies.shares.size() == 4, "every rank has a share");
  });
  return 0;
}
