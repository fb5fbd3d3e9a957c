// Lines of `tessera tokenize`: the first byte says whether they are texts, ids or conversations.
#include "target.hpp"

#include <array>
#include <sstream>

#include "tessera/tokenize.hpp"

using namespace tessera;

namespace {

/// Of a folder with a tokenizer and a chat format.
std::array<tools::LineAnswers, 3> make_answers() {
  const fuzz::MemoryFolder folder;
  const std::filesystem::path golden = TESSERA_GOLDEN;
  std::filesystem::create_symlink(golden / "tokenizers/llama3/tokenizer.json", folder.path() / "tokenizer.json");
  std::filesystem::create_symlink(golden / "chat/llama3.jinja", folder.path() / "chat_template.jinja");
  tools::TokenizeOptions texts, ids, conversations;
  texts.model = ids.model = conversations.model = folder.path().string();
  texts.no_special = ids.decode = conversations.render = true;
  return {tools::LineAnswers(texts), tools::LineAnswers(ids), tools::LineAnswers(conversations)};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::array<tools::LineAnswers, 3> answers = make_answers();
  if (size == 0) return 0;
  fuzz::parse([&] {
    std::istringstream in(std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
    std::ostringstream out;
    answers[data[0] % answers.size()].answer(in, out);
    const std::string lines = out.str();
    fuzz::expect(lines.empty() || lines.back() == '\n', "every line is whole");
  });
  return 0;
}
