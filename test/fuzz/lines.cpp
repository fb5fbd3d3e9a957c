// Lines of `tessera tokenize`: the first byte says whether they are texts, ids or conversations.
#include "target.hpp"

#include <iostream>
#include <sstream>

#include "tessera/commands.hpp"

using namespace tessera;

namespace {

/// A folder with a tokenizer and a chat format.
const std::filesystem::path& model() {
  static const fuzz::MemoryFolder folder;
  static const bool made = [] {
    const std::filesystem::path golden = TESSERA_GOLDEN;
    std::filesystem::create_symlink(golden / "tokenizers/llama3/tokenizer.json", folder.path() / "tokenizer.json");
    std::filesystem::create_symlink(golden / "chat/llama3.jinja", folder.path() / "chat_template.jinja");
    return true;
  }();
  fuzz::expect(made, "a folder is made");
  return folder.path();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static constexpr const char* modes[] = {"--no-special", "--decode", "--render"};
  if (size == 0) return 0;
  std::istringstream in(std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  std::ostringstream out;
  std::streambuf* const stdin_buffer = std::cin.rdbuf(in.rdbuf());
  std::streambuf* const stdout_buffer = std::cout.rdbuf(out.rdbuf());
  std::cin.clear();
  fuzz::parse([&] {
    CLI::App app("fuzz");
    tools::add_tokenize(app);
    app.parse(std::vector<std::string>{modes[data[0] % 3], model().string(), "--model", "tokenize"});
  });
  std::cin.rdbuf(stdin_buffer);
  std::cout.rdbuf(stdout_buffer);
  return 0;
}
