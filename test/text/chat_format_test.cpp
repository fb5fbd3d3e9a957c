// The chat formats, held to what transformers' apply_chat_template gave (test/golden/make_chat.py).
#include "catch.hpp"

#include <cstdlib>

#include <tessera/text/chat_format.hpp>

#include "golden.hpp"
#include "io/temp_folder.hpp"

using namespace tessera;

namespace {

ChatFormat format_of(const std::string& source) { return ChatFormat({source, "", ""}); }

/// Why a template is refused; empty if it is not.
std::string refusal(const std::string& source) {
  try {
    format_of(source);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("every conversation renders as its template does it in transformers") {
  std::size_t checked = 0;
  for (const auto& entry : std::filesystem::directory_iterator(golden::folder("chat"))) {
    if (entry.path().extension() != ".jinja") continue;
    const auto json = golden::read_json(std::filesystem::path(entry.path()).replace_extension(".json"));
    const ChatFormat format({test::read_file(entry.path()), json.at("bos_token"), json.at("eos_token")});
    for (const auto& row : json.at("cases")) {
      INFO(entry.path().filename().string() << ": " << row.dump());
      std::vector<ChatMessage> messages;
      for (const auto& message : row.at("messages")) messages.push_back({message.at("role"), message.at("content")});
      ChatOptions options;
      if (!row.at("thinking").is_null()) options.thinking = row.at("thinking").get<bool>();
      if (!row.at("date").is_null()) options.date = row.at("date").get<std::string>();
      if (row.at("text").is_null()) {
        CHECK_THROWS_AS(format.render(messages, row.at("add_generation_prompt"), options), Error);
      } else {
        CHECK(format.render(messages, row.at("add_generation_prompt"), options) == row.at("text").get<std::string>());
      }
      ++checked;
    }
  }
  REQUIRE(checked > 500);
}

TEST_CASE("a template of an unknown format is refused, and the message says what to do") {
  const std::string mistral =
      "{{ bos_token }}{% for m in messages %}{{ '[INST]' + m['content'] + '[/INST]' }}{% endfor %}";
  for (const std::string& source : {std::string(), mistral, std::string("{{ messages }}")}) {
    CHECK_THAT(refusal(source), Catch::Contains("expected a chat template"));
    CHECK_THAT(refusal(source), Catch::Contains("give the prompt itself"));
  }
}

TEST_CASE("ChatML that changes the messages is not taken for plain ChatML") {
  const std::string plain = test::read_file(golden::folder("chat") / "chatml.jinja");
  REQUIRE(refusal(plain).empty());
  for (const std::string addition :
       {"{% set content = content | trim %}", "{{ bos_token }}", "{{ raise_exception('no') }}",
        "{% if '</think>' in message.content %}{% endif %}"}) {
    CHECK_FALSE(refusal(addition + plain).empty());
  }
}

TEST_CASE("a template's spelling does not matter, its comments are not read") {
  const std::string plain = test::read_file(golden::folder("chat") / "qwen2.jinja");
  std::string other;
  for (const char c : plain) other += c == '"' ? '\'' : c;
  for (const ChatFormat& format : {format_of(plain), format_of("{# it's [INST] <<SYS>> trim #}" + other)}) {
    CHECK(format.render({{{"user", "x"}}}, false) ==
          "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n");
  }
}

TEST_CASE("Llama 3.2 writes the date of today unless one is given") {
  const ChatFormat format = format_of(test::read_file(golden::folder("chat") / "llama3.2.jinja"));
  const std::string before = text::date_of_today();
  const std::string rendered = format.render({{{"user", "x"}}}, false);
  const std::string after = text::date_of_today();
  const auto dated = [&](const std::string& date) {
    return rendered.find("Today Date: " + date + "\n") != std::string::npos;
  };
  CHECK((dated(before) || dated(after)));
  CHECK(before.size() == 11);
}

TEST_CASE("an empty conversation and an unknown role are refused") {
  const ChatFormat format = format_of(test::read_file(golden::folder("chat") / "chatml.jinja"));
  CHECK_THROWS_WITH(format.render({}, true), Catch::Contains("expected a message at least"));
  CHECK_THROWS_WITH(format.render({{{"tool", "42"}}}, true), Catch::Contains("found 'tool'"));
}

TEST_CASE("a folder's template is chat_template.jinja, then the configuration's, by name where there are several") {
  const test::TempFolder folder;
  CHECK_THROWS_WITH(ChatFormat::load(folder.path()), Catch::Contains("found none"));
  const std::string chatml = test::read_file(golden::folder("chat") / "chatml.jinja");
  const std::string llama3 = test::read_file(golden::folder("chat") / "llama3.jinja");
  text::Json config;
  config["bos_token"] = {{"content", "<bos>"}, {"lstrip", false}};
  config["chat_template"] = llama3;
  test::write_file(folder / "tokenizer_config.json", config.dump());
  CHECK(ChatFormat::load(folder.path()).name() == "llama3");
  CHECK(ChatFormat::load(folder.path()).render({{{"user", "x"}}}, false) ==
        "<bos><|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|>");
  config["chat_template"] = {{{"name", "tool_use"}, {"template", chatml}}, {{"name", "default"}, {"template", llama3}}};
  test::write_file(folder / "tokenizer_config.json", config.dump());
  CHECK(ChatFormat::load(folder.path()).name() == "llama3");
  config["chat_template"] = {{{"name", "tool_use"}, {"template", chatml}}, {{"name", "rag"}, {"template", chatml}}};
  test::write_file(folder / "tokenizer_config.json", config.dump());
  CHECK_THROWS_WITH(ChatFormat::load(folder.path()), Catch::Contains("named default, found tool_use, rag"));
  test::write_file(folder / "chat_template.jinja", chatml);
  config["chat_template"] = llama3;
  test::write_file(folder / "tokenizer_config.json", config.dump());
  CHECK(ChatFormat::load(folder.path()).name() == "chatml");
}
