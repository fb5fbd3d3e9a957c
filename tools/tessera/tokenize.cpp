// tessera tokenize --model DIR < texts.jsonl: a JSON string per line becomes a JSON array of ids; --decode reverses.
// With --render a conversation per line becomes its text.
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "commands.hpp"
#include "tokenize.hpp"

namespace tessera::tools {

namespace {

std::vector<token_t> read_ids(const text::JsonReader& line, index_t vocab_size) {
  std::vector<token_t> ids;
  for (std::size_t i = 0; i < line.array().size(); ++i) {
    ids.push_back(static_cast<token_t>(line.element(i).integer_below(vocab_size)));
  }
  return ids;
}

std::vector<ChatMessage> read_messages(const text::JsonReader& line) {
  std::vector<ChatMessage> messages;
  for (std::size_t i = 0; i < line.array().size(); ++i) {
    const text::JsonReader message = line.element(i);
    messages.push_back({message.at("role").string(), message.at("content").string()});
  }
  return messages;
}

/// JSON on one line, also for readers that end a line at U+0085, U+2028 or U+2029.
std::string on_one_line(const text::Json& json) {
  std::string out = json.dump();
  for (const auto& [raw, escaped] :
       {std::pair{"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}}) {
    const std::string_view from(raw);
    for (std::size_t at = 0; (at = out.find(from, at)) != std::string::npos;) out.replace(at, from.size(), escaped);
  }
  return out;
}

}  // namespace

LineAnswers::LineAnswers(const TokenizeOptions& options) : options_(options) {
  if (options.render)
    format_.emplace(ChatFormat::load(options.model));
  else
    tokenizer_.emplace(Tokenizer::load(options.model));
}

text::Json LineAnswers::answer(const text::JsonReader& line) const {
  if (options_.render) return format_->render(read_messages(line), true);
  if (options_.decode) return tokenizer_->decode(read_ids(line, tokenizer_->vocab_size()), options_.no_special);
  return tokenizer_->encode(line.string(), !options_.no_special);
}

void LineAnswers::answer(std::istream& in, std::ostream& out) const {
  std::string line;
  for (index_t number = 1; std::getline(in, line); ++number) {
    const std::string where = concat("standard input, line ", number);
    const text::Json json = text::parse_json(line, where);
    out << on_one_line(answer(text::JsonReader(json, where))) << '\n';
    require(static_cast<bool>(out), "standard output: expected to write line ", number, ", it is closed or full");
  }
  require(static_cast<bool>(out.flush()), "standard output: expected to write all lines, it is closed or full");
}

void add_tokenize(CLI::App& app) {
  CLI::App* command = app.add_subcommand("tokenize", "Turn text into token ids, or ids into text, a line at a time");
  const auto options = std::make_shared<TokenizeOptions>();
  command->add_option("--model", options->model, "folder with tokenizer.json")->required()->type_name("DIR");
  auto* no_special =
      command->add_flag("--no-special", options->no_special,
                        "no tokens around the text (BOS); with --decode: leave special tokens out of the text");
  auto* decode =
      command->add_flag("--decode", options->decode, "read a JSON array of ids per line, write a JSON string");
  command
      ->add_flag("--render", options->render,
                 "read a conversation per line, a JSON array of objects with role and content, and write the text that "
                 "the chat template makes of it, up to where the answer begins")
      ->excludes(no_special)
      ->excludes(decode);
  command->footer(
      "Reads standard input, writes standard output, one JSON value per line.\n\n"
      "  echo '\"Hello, world!\"' | tessera tokenize --model DIR\n"
      "  echo '[9707, 11]' | tessera tokenize --model DIR --decode\n"
      "  echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' | tessera tokenize --model DIR --render");
  command->callback([options] { LineAnswers(*options).answer(std::cin, std::cout); });
}

}  // namespace tessera::tools
