// tokenizer.json, then tokenizer_config.json, then a text to encode and decode, with zero bytes between.
#include "target.hpp"

#include <tessera/text/tokenizer.hpp>

using namespace tessera;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::string> parts = fuzz::texts(data, size, 3);
  fuzz::parse([&] {
    const Tokenizer tokenizer(parts[0], "tokenizer.json", parts[1].empty() ? "{}" : parts[1]);
    const std::vector<token_t> ids = tokenizer.encode(parts[2]);
    for (const token_t id : ids) fuzz::expect(tokenizer.contains(id), "every id is of the vocabulary");
    (void)tokenizer.decode(ids, true);
    StreamDecoder stream = tokenizer.stream_decoder();
    std::string streamed;
    for (const token_t id : ids) streamed += stream.push(id);
    fuzz::expect(streamed + stream.flush() == tokenizer.decode(ids), "streamed text is the text");
  });
  return 0;
}
