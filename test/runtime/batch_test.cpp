// Several prompts through one model: each text is what its prompt gives alone, whatever the batch, ranks and sharding.

#include "catch.hpp"

#include <map>

#include <tessera/runtime/batch.hpp>
#include <tessera/runtime/generate.hpp>
#include <tessera/tessera.hpp>

#include "program/golden.hpp"

using namespace tessera;

namespace {

using Ids = std::vector<token_t>;

const std::vector<Ids> prompts = {{1, 2, 3},        Ids(37, 9),   {200}, {5, 4, 3, 2, 1, 0, 7},
                                  {11, 12, 13, 14}, Ids(20, 100), {319}};
constexpr index_t new_tokens = 12;

const program::Golden& golden() {
  static const program::Golden loaded = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  return loaded;
}

struct Run {
  std::vector<Ids> texts;
  StepCounts counts;
  index_t steps = 0;
};

/// Rank 0's texts of all prompts, `batch` at a time. A text ends after a token that `ends` names.
template <class Model>
Run texts_of(int ranks, index_t batch, const Sampling& sampling, token_t ends = -1) {
  return InProcess::run(ranks, [&](Communicator comm) {
    Model model(comm, golden().config, golden().weights,
                {.limits = {.max_tokens = 16, .max_positions = 64, .max_sequences = batch}});
    Sampler sampler(sampling);
    Run run{std::vector<Ids>(prompts.size()), {}, 0};
    BatchGeneration generation(model, sampler, prompts, new_tokens);
    for (; !generation.done(); ++run.steps) {
      const StepCounts counts = generation.step([&](std::size_t n, token_t id) {
        run.texts[n].push_back(id);
        return id != ends;
      });
      run.counts.prompt_tokens += counts.prompt_tokens;
      run.counts.new_tokens += counts.new_tokens;
    }
    return run;
  })[0];
}

}  // namespace

TEMPLATE_TEST_CASE("a batch gives each prompt the text that it gets alone", "", HeadWise, Sequence<>) {
  for (const Sampling sampling : {Sampling{.temperature = 0}, Sampling{.temperature = 0.8, .top_k = 20, .seed = 5}}) {
    const std::vector<Ids> alone = texts_of<Transformer<TestType>>(1, 1, sampling).texts;
    for (const Ids& text : alone) REQUIRE(text.size() == new_tokens);
    for (const int ranks : {1, 3})
      for (const index_t batch : {2, 4, 7, 10}) {
        INFO(TestType::name << ", " << ranks << " ranks, " << batch << " at a time");
        CHECK(texts_of<Transformer<TestType>>(ranks, batch, sampling).texts == alone);
      }
  }
}

TEST_CASE("one seed gives one text on any number of ranks, under both shardings") {
  for (const Sampling sampling :
       {Sampling{.seed = 1}, Sampling{.temperature = 0.6, .top_k = 20, .top_p = 0.95, .seed = 2},
        Sampling{.temperature = 1.5, .min_p = 0.02, .repetition_penalty = 1.2, .seed = 3}}) {
    const std::vector<Ids> expected = texts_of<Transformer<HeadWise>>(1, 3, sampling).texts;
    for (const int ranks : {1, 2, 3, 4}) {
      INFO(ranks << " ranks, seed " << sampling.seed);
      CHECK(texts_of<Transformer<HeadWise>>(ranks, 3, sampling).texts == expected);
      CHECK(texts_of<Transformer<Sequence<>>>(ranks, 3, sampling).texts == expected);
    }
  }
  CHECK(texts_of<Transformer<HeadWise>>(1, 3, {.seed = 1}).texts !=
        texts_of<Transformer<HeadWise>>(1, 3, {.seed = 2}).texts);
}

TEST_CASE("greedy generation of a batch is generate_greedily of each prompt") {
  const std::vector<Ids> texts = texts_of<Transformer<HeadWise>>(1, 3, {.temperature = 0}).texts;
  for (std::size_t n = 0; n < prompts.size(); ++n) {
    Transformer<HeadWise> model(Loopback{}, golden().config, golden().weights,
                                {.limits = {.max_tokens = 64, .max_positions = 64, .max_sequences = 1}});
    Ids text;
    generate_greedily(model, 0, prompts[n], new_tokens, [&](token_t id) {
      text.push_back(id);
      return true;
    });
    CHECK(texts[n] == text);
  }
}

TEST_CASE("a text that ends early gives its place to the next prompt") {
  const Run all = texts_of<Transformer<HeadWise>>(1, 2, {.temperature = 0});
  const token_t ends = all.texts[0][2];
  const Run cut = texts_of<Transformer<HeadWise>>(1, 2, {.temperature = 0}, ends);
  CHECK(cut.texts[0] == Ids(all.texts[0].begin(), all.texts[0].begin() + 3));
  CHECK(cut.steps < all.steps);
  for (std::size_t n = 0; n < prompts.size(); ++n) {
    const auto end = std::find(all.texts[n].begin(), all.texts[n].end(), ends);
    CHECK(cut.texts[n] == Ids(all.texts[n].begin(), end == all.texts[n].end() ? end : end + 1));
  }
  index_t prompt_tokens = 0;
  for (const Ids& prompt : prompts) prompt_tokens += static_cast<index_t>(prompt.size());
  CHECK(all.counts.prompt_tokens == prompt_tokens);
  CHECK(all.counts.new_tokens == new_tokens * static_cast<index_t>(prompts.size()));
}

TEST_CASE("a prefix that the cache holds already is not computed again") {
  Transformer<HeadWise> model(Loopback{}, golden().config, golden().weights,
                              {.limits = {.max_tokens = 16, .max_positions = 64, .max_sequences = 1}});
  Sampler sampler({.temperature = 0});
  const auto run = [&](index_t& prompt_tokens) {
    Ids text;
    BatchGeneration generation(model, sampler, {prompts[3]}, 5);
    while (!generation.done())
      prompt_tokens += generation
                           .step([&](std::size_t, token_t id) {
                             text.push_back(id);
                             return true;
                           })
                           .prompt_tokens;
    return text;
  };
  index_t first_tokens = 0, second_tokens = 0;
  const Ids first = run(first_tokens);
  model.truncate(0, 4);
  CHECK(run(second_tokens) == first);
  CHECK(first_tokens == 7);
  CHECK(second_tokens == 3);
}

TEST_CASE("generation ends where the model has no more positions") {
  Transformer<HeadWise> model(Loopback{}, golden().config, golden().weights,
                              {.limits = {.max_tokens = 16, .max_positions = 8, .max_sequences = 1}});
  Sampler sampler({.temperature = 0});
  index_t made = 0;
  BatchGeneration generation(model, sampler, {prompts[3]}, 100);  // 7 tokens
  while (!generation.done()) generation.step([&](std::size_t, token_t) { return ++made > 0; });
  CHECK(made == 2);
  CHECK_THROWS_WITH(BatchGeneration(model, sampler, {Ids(9, 1)}, 1), Catch::Contains("room for 8"));
  CHECK_THROWS_WITH(BatchGeneration(model, sampler, {{}}, 1), Catch::Contains("at least one token"));
}
