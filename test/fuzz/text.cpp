// A text that a tokenizer encodes; the first byte says which of those in test/golden.
#include "target.hpp"

#include <tessera/text/tokenizer.hpp>

using namespace tessera;

namespace {

std::vector<Tokenizer> golden_tokenizers() {
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(TESSERA_GOLDEN "/tokenizers"))
    if (std::filesystem::exists(entry.path() / "tokenizer.json")) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  std::vector<Tokenizer> tokenizers;
  for (const auto& folder : folders) tokenizers.push_back(Tokenizer::load(folder));
  return tokenizers;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<Tokenizer> tokenizers = golden_tokenizers();
  if (size == 0) return 0;
  const Tokenizer& tokenizer = tokenizers[data[0] % tokenizers.size()];
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  fuzz::parse([&] {
    const std::vector<token_t> ids = tokenizer.encode(text);
    for (const token_t id : ids)
      fuzz::expect(tokenizer.contains(id) && id < tokenizer.vocab_size(), "every id is of the vocabulary");
    StreamDecoder stream = tokenizer.stream_decoder();
    std::string streamed;
    for (const token_t id : ids) streamed += stream.push(id);
    streamed += stream.flush();
    fuzz::expect(streamed == tokenizer.decode(ids), "streamed text is the text");
    tessera::text::require_utf8(streamed, "decoded text");
  });
  // As ids, which nobody has encoded.
  std::vector<token_t> ids;
  for (std::size_t i = 1; i + 1 < size; i += 2) ids.push_back(static_cast<token_t>(data[i] | data[i + 1] << 8));
  (void)tokenizer.decode(ids);
  return 0;
}
