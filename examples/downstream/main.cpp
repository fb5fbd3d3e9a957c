// A project of one's own on tessera: asks a model what a word means.
//   mpiexec.mpich -n 2 build/ask MODEL_FOLDER WORD
#include <cstdio>

#include <mpi.h>

#include <tessera/io.hpp>
#include <tessera/mpi.hpp>
#include <tessera/tessera.hpp>
#include <tessera/text.hpp>

using Model = tessera::Transformer<tessera::HeadWise, tessera::OnlineSoftmax, tessera::XsimdBackend<>>;

std::string answer(tessera::Communicator comm, const char* folder, const char* word) {
  const tessera::ModelConfig config = tessera::read_config(folder);
  const tessera::Tokenizer tokenizer = tessera::Tokenizer::load(folder);
  const tessera::ChatMessage question{"user", word};
  const auto prompt = tokenizer.encode(tessera::ChatFormat::load(folder).render({&question, 1}, true), false);

  Model model(comm, config, tessera::load_weights(tessera::Checkpoint::open(folder), config),
              {.limits = {.max_tokens = 64, .max_positions = 256}, .threads = 1});
  std::vector<tessera::token_t> ids;
  tessera::generate_greedily(model, 0, prompt, 100, [&](tessera::token_t id) {
    ids.push_back(id);
    return std::find(config.eos_token_ids.begin(), config.eos_token_ids.end(), id) == config.eos_token_ids.end();
  });
  return tokenizer.decode(ids, true);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: ask MODEL_FOLDER WORD\n");
    return 2;
  }
  MPI_Init(&argc, &argv);  // the program's own affair: the library takes a communicator and nothing else
  int rank = 0, status = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  try {
    const std::string text = answer(tessera::Mpi(MPI_COMM_WORLD), argv[1], argv[2]);
    if (rank == 0) std::puts(text.c_str());
  } catch (const tessera::Error& error) {
    if (rank == 0) std::fprintf(stderr, "%s\n", error.what());
    status = 1;
  }
  MPI_Finalize();
  return status;
}
