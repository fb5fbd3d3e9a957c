// A shipped combination that this unit does not compile: TESSERA_EXTERN_TEMPLATES leaves it to tessera/instances.cpp.
#include <array>
#include <cstdio>

#include <tessera/io.hpp>
#include <tessera/tessera.hpp>

int main(int, char** argv) {
  using namespace tessera;
  const ModelConfig config = read_config(argv[1]);
  Transformer<HeadWise, OnlineSoftmax, ScalarBackend> model(
      Loopback(), config, load_weights(Checkpoint::open(argv[1]), config), {.limits = {.max_positions = 16}});
  const std::array<token_t, 3> ids = {1, 2, 3};
  const Chunk chunk{0, ids, Wanted::last};
  std::printf("%d logits\n", static_cast<int>(model.step(std::span(&chunk, 1)).local.cols));
}
