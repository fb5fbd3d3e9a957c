// A conversation keeps what the cache already holds: its answers are those of whole prompts to a fresh model.

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/io/hf_config.hpp>

#include "program/combinations.hpp"
#include "tessera/conversation.hpp"

using namespace tessera;

namespace {

constexpr index_t new_tokens = 12;

tools::ChatCommand demo(const std::string& strategy) {
  tools::ChatCommand command;
  command.model.model = TESSERA_DEMO_MODEL;
  command.model.parallel_strategy = strategy;
  command.model.quiet = true;
  command.model.chunk = 16;
  command.model.threads = 1;
  command.max_new_tokens = new_tokens;
  return command;
}

/// Every sharding, as it is typed and with how it decodes.
std::vector<std::pair<std::string, std::string>> all_strategies() {
  std::vector<std::pair<std::string, std::string>> all;
  for (const Combination& row : program::shipped_combinations()) {
    if (row.softmax != "online_softmax" || row.backend != "native") continue;
    std::string name(row.sharding);
    if (row.is_hybrid()) name.replace(name.find(" x "), 3, ":2x") += ":2";
    all.emplace_back(name, row.decode);
  }
  return all;
}

const std::vector<std::string> questions = {"tessera", "mosaic", "tile"};

struct Turn {
  std::string text;
  tools::Answer answer;
  std::vector<std::pair<index_t, index_t>> reads;
};

Turn ask(tools::Conversation& conversation, const std::string& question, int steps = 1 << 20) {
  Turn turn;
  turn.answer =
      conversation.ask(question, {.read = [&](index_t done, index_t total) { turn.reads.emplace_back(done, total); },
                                  .text = [&](const std::string& piece) { turn.text += piece; },
                                  .stop = [&] { return --steps == 0; }});
  return turn;
}

/// The same questions as whole prompts, each to a model that has seen nothing.
std::vector<Turn> reference() {
  const program::ModelOptions options = demo("headwise").model;
  const program::Opened opened = program::open_model(Loopback{}, options, true);
  const ChatFormat format = ChatFormat::load(options.model);
  std::vector<ChatMessage> messages;
  std::vector<Turn> turns;
  for (const std::string& question : questions) {
    messages.push_back({"user", question});
    const std::vector<token_t> prompt = opened.tokenizer->encode(format.render(messages, true), false);
    const auto model = program::make_model(Loopback{}, opened, options, 256, 256).model;
    program::TextStream stream(&*opened.tokenizer, opened.config.eos_token_ids);
    Turn turn;
    generate_greedily(*model, 0, prompt, new_tokens, [&](token_t id) {
      turn.text += stream.push(id);
      return !stream.ended();
    });
    turn.text += stream.flush();
    turn.answer.prefilled = static_cast<index_t>(prompt.size());
    messages.push_back({"assistant", turn.text});
    turns.push_back(turn);
  }
  return turns;
}

}  // namespace

TEST_CASE("later questions are answered as whole prompts are, and only what is new is read") {
  const std::vector<Turn> expected = reference();
  REQUIRE(all_strategies().size() >= 12);
  for (const auto& [strategy, decode] : all_strategies())
    for (const int ranks : {1, 3, 4}) {
      if ((ranks != 4) == (strategy.find(':') != std::string::npos)) continue;
      tools::ChatCommand command = demo(strategy);
      command.model.decode_strategy = decode;
      const std::vector<Turn> turns = InProcess::run(ranks, [&](Communicator comm) {
        tools::Conversation conversation(comm, command);
        std::vector<Turn> all;
        for (const std::string& question : questions) all.push_back(ask(conversation, question));
        conversation.clear();
        all.push_back(ask(conversation, questions[0]));
        return all;
      })[0];
      INFO(strategy << ", decode " << decode << ", " << ranks << " ranks");
      for (std::size_t i = 0; i < questions.size(); ++i) CHECK(turns[i].text == expected[i].text);
      CHECK(turns[0].answer.prefilled == expected[0].answer.prefilled);
      for (const std::size_t i : {1U, 2U}) CHECK(turns[i].answer.prefilled < expected[1].answer.prefilled / 2 + 5);
      CHECK(turns[3].text == expected[0].text);
    }
}

TEST_CASE("an interrupted answer stays in the conversation, as far as it came") {
  tools::Conversation conversation(Loopback{}, demo("headwise"));
  const Turn cut = ask(conversation, questions[0], 5);
  CHECK(cut.answer.end == tools::chat_end::stopped);
  CHECK(reference()[0].text.starts_with(cut.text));
  CHECK_FALSE(cut.text.empty());
  const Turn next = ask(conversation, questions[1]);
  CHECK(next.answer.end != tools::chat_end::stopped);
  conversation.clear();
  CHECK(ask(conversation, questions[0]).text == reference()[0].text);
}

TEST_CASE("a context that is full says so, and goes on after a clear") {
  tools::ChatCommand command = demo("headwise");
  command.context = 30;
  command.max_new_tokens = 0;
  tools::Conversation conversation(Loopback{}, command);
  const Turn first = ask(conversation, questions[0]);
  CHECK(first.answer.end == tools::chat_end::full);
  CHECK(ask(conversation, questions[1]).answer.end == tools::chat_end::no_room);
  conversation.clear();
  CHECK(ask(conversation, questions[0]).text == first.text);
  CHECK(ask(conversation, std::string(200, 'x')).answer.end == tools::chat_end::no_room);
}

TEST_CASE("a long question is read in chunks, which can be seen and stopped") {
  tools::Conversation conversation(Loopback{}, demo("headwise"));
  std::string question;
  for (int i = 0; i < 60; ++i) question += "tile ";
  const Turn turn = ask(conversation, question);
  REQUIRE(turn.reads.size() >= 3);
  for (std::size_t i = 0; i < turn.reads.size(); ++i) CHECK(turn.reads[i].first == 16 * static_cast<index_t>(i + 1));
  CHECK(turn.reads[0].second == turn.answer.prefilled);
  conversation.clear();
  const Turn again = ask(conversation, question);
  CHECK(again.reads.empty());  // the cache has it still
  CHECK(again.text == turn.text);
  conversation.clear();
  const Turn stopped = ask(conversation, "a " + question, 2);
  CHECK(stopped.answer.end == tools::chat_end::stopped);
  CHECK(stopped.text.empty());
}

TEST_CASE("a message that cannot be rendered is not taken") {
  tools::Conversation conversation(Loopback{}, demo("headwise"));
  CHECK_THROWS_AS(ask(conversation, "\xff"), AgreedError);
  CHECK(ask(conversation, questions[0]).text == reference()[0].text);
}

TEST_CASE("what a model sends is counted once, whatever carries it") {
  for (const std::string collectives : {"mpi", "shm", "auto"}) {
    INFO(collectives);
    for (const Tally& tally : InProcess::run(2, [&](Communicator comm) {
           program::ModelOptions options = demo("headwise").model;
           options.collectives = collectives;
           const program::Opened opened = program::open_model(comm, options, false);
           const program::RecordedModel made = program::make_model(comm, opened, options, 16, 16);
           made.ledger->clear();
           const std::vector<token_t> ids = {1, 2, 3};
           const Chunk chunk{0, ids, Wanted::none};
           made.model->step({&chunk, 1});
           return (*made.ledger)[Collective::allreduce];
         })) {
      // Two sums a layer, of a row of activations for each token.
      const ModelConfig config = read_config(TESSERA_DEMO_MODEL);
      CHECK(tally.calls == 2 * config.layers);
      CHECK(tally.payload_bytes == 2 * config.layers * 3 * config.hidden * 4);
    }
  }
}
