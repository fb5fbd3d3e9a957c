// Files of weights that change while a model is made of them.

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/runtime/load_weights.hpp>

#include "io/temp_folder.hpp"

using namespace tessera;

namespace {

namespace fs = std::filesystem;

/// What each of two ranks hears at the end of a run of the models in `folders`, under which `change` is made.
template <class Change>
std::vector<std::string> heard_at_the_end(const std::vector<fs::path>& folders, Change change) {
  return InProcess::run(2, [&](Communicator comm) -> std::string {
    const fs::path folder = folders[static_cast<std::size_t>(comm.rank()) % folders.size()];
    const ModelWeights weights = load_weights(Checkpoint::open(folder), read_config(folder));
    comm.barrier();
    if (comm.rank() == 0) change();
    comm.barrier();
    return test::error_of([&] { require_unchanged(comm, weights); });
  });
}

}  // namespace

TEST_CASE("weights that change under a run are an error of all ranks, with the file and the rank that saw it") {
  const fs::path golden = fs::path(TESSERA_GOLDEN) / "qwen3-tiny";
  const test::TempFolder folder;
  const std::vector<fs::path> own = {folder / "0", folder / "1"};
  for (const fs::path& each : own) {
    fs::create_directory(each);
    fs::copy_file(golden / "config.json", each / "config.json");
    fs::copy_file(golden / "model.safetensors", each / "model.safetensors");
  }
  const fs::path file = own[1] / "model.safetensors";
  const auto told = [&](const std::string& what) { return std::vector<std::string>(2, file.string() + what); };
  const std::string place = concat(" (rank 1 of 2 on ", detail::host_name(), ")");
  const auto rewrite = [&] { fs::last_write_time(file, fs::last_write_time(file) + std::chrono::seconds(1)); };
  CHECK(heard_at_the_end(own, [] {}) == std::vector<std::string>(2));
  CHECK(heard_at_the_end(own, rewrite) == told(": was written to while in use" + place));
  CHECK(heard_at_the_end({own[1]}, rewrite) == told(": was written to while in use"));
  CHECK(heard_at_the_end(own, [&] {
          fs::copy_file(file, folder / "other");
          fs::rename(folder / "other", file);
        }) == told(": was replaced by another file while in use" + place));
  CHECK(heard_at_the_end(own, [&] { fs::remove(file); }) == told(": was removed while in use" + place));
}
