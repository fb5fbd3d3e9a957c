// model.safetensors.index.json, beside two files of tensors.
#include "target.hpp"

#include <tessera/io/checkpoint.hpp>

using namespace tessera;

namespace {

/// A file with a matrix f32 [2, 2] and a vector bf16 [3], whose names end so.
std::string shard(const std::string& name) {
  const std::string header = R"({"m)" + name + R"(":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"v)" + name +
                             R"(":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}})";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  return bytes + header + std::string(22, '\x3F');
}

struct Folder {
  Folder() {
    first.write(shard("1"));
    second.write(shard("2"));
    folder.link(first, "a.safetensors");
    folder.link(second, "b.safetensors");
    folder.link(index, "model.safetensors.index.json");
  }
  fuzz::MemoryFile first, second, index;
  fuzz::MemoryFolder folder;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Folder folder;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::parse([&] {
    (void)parse_json(text, "index");  // most inputs are refused here, and need no file for that
    folder.index.write(text);
    const Checkpoint checkpoint = Checkpoint::open(folder.folder.path());
    fuzz::expect(checkpoint.files().size() <= 3, "only files of the folder are opened");
    for (const char* name : {"m1", "m2"})
      if (checkpoint.find(name) != nullptr) checkpoint.populate(checkpoint.weight(name, 2, 2));
    for (const char* name : {"v1", "v2"})
      if (checkpoint.find(name) != nullptr) fuzz::expect(checkpoint.vector(name, 3).size() == 3, "a vector is whole");
  });
  return 0;
}
