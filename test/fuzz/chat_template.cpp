// tokenizer_config.json, then chat_template.jinja (empty: none), then what is said, with zero bytes between.
#include "target.hpp"

#include <tessera/text/chat_format.hpp>

using namespace tessera;

namespace {

struct Folder {
  Folder() { folder.link(config, "tokenizer_config.json"); }
  fuzz::MemoryFile config;
  fuzz::MemoryFolder folder;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Folder folder;
  const std::vector<std::string> parts = fuzz::texts(data, size, 3);
  fuzz::parse([&] {
    text::ChatTemplate source;
    if (!parts[0].empty()) {
      (void)text::parse_json(parts[0], "tokenizer_config.json");  // what is refused here needs no file
      folder.config.write(parts[0]);
      source = text::read_chat_template(folder.folder.path());
    }
    if (!parts[1].empty()) source.source = parts[1];
    const ChatFormat format(source);
    const std::vector<ChatMessage> messages = {
        {"system", parts[2]}, {"user", parts[2]}, {"assistant", parts[2]}, {"user", "and?"}};
    const std::string rendered = format.render(messages, true);
    fuzz::expect(rendered.find("and?") != std::string::npos, "what is said is rendered");
    (void)format.render(std::span(messages).subspan(1), false);
  });
  return 0;
}
