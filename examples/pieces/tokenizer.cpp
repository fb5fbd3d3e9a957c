// Text to ids and back with a model's tokenizer.json, and text as it comes, token by token.
//   g++ -std=c++20 -O2 -Iinclude examples/pieces/tokenizer.cpp -o tokenizer -lpcre2-8 -lutf8proc
//   ./tokenizer examples/demo-model "A tessera, two tesserae."
#include <cstdio>

#include <tessera/text.hpp>
using namespace tessera;

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: tokenizer MODEL_FOLDER TEXT\n");
    return 2;
  }
  try {
    const Tokenizer tokenizer = Tokenizer::load(argv[1]);
    const std::vector<token_t> ids = tokenizer.encode(argv[2]);
    for (const token_t id : ids) std::printf("%d ", id);
    // A character may be cut in two by a token: the stream decoder holds it back until it is whole.
    StreamDecoder text = tokenizer.stream_decoder();
    std::puts("");
    for (const token_t id : ids) std::printf("%s|", text.push(id).c_str());
    std::printf("%s\n%s\n", text.flush().c_str(), tokenizer.decode(ids, true).c_str());
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
