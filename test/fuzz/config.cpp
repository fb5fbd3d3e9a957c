// config.json and, behind a zero byte, generation_config.json.
#include "target.hpp"

#include <tessera/io/config_writer.hpp>
#include <tessera/io/hf_config.hpp>

using namespace tessera;

namespace {

struct Folder {
  Folder() {
    folder.link(config, "config.json");
    folder.link(generation, "generation_config.json");
  }
  fuzz::MemoryFile config, generation;
  fuzz::MemoryFolder folder;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Folder folder;
  const std::vector<std::string> parts = fuzz::texts(data, size, 2);
  fuzz::parse([&] {
    (void)parse_json(parts[0], "config.json");  // most inputs are refused here, and need no file for that
    folder.config.write(parts[0]);
    folder.generation.write(parts[1].empty() ? "{}" : parts[1]);
    const ModelConfig config = read_config(folder.folder.path());
    fuzz::expect(config.heads % config.kv_heads == 0 && config.head_dim % 2 == 0, "heads fit their KV heads");
    fuzz::expect(config.layers > 0 && config.hidden > 0 && config.intermediate > 0 && config.vocab > 0,
                 "a model has a size");
    index_t bytes = 0;  // of the largest matrix; what is allocated is a few of its rows
    fuzz::expect(!__builtin_mul_overflow(config.vocab, config.hidden, &bytes) &&
                     !__builtin_mul_overflow(bytes, index_t{8}, &bytes),
                 "sizes of matrices do not overflow");
    for (const token_t id : config.eos_token_ids) fuzz::expect(0 <= id && id < config.vocab, "EOS is a token");
    (void)read_generation_config(folder.folder.path(), config.vocab);
  });
  return 0;
}
