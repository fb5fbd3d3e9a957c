// Models in a program that has MPI of its own, in the ways that such programs use it: manners_program CASE GOLDEN
//   side-by-side   MPI_THREAD_FUNNELED: a model on each half of the ranks, and one on all, step by step in turn
//   many-threads   MPI_THREAD_MULTIPLE: two threads with a model each
//   too-few        MPI_THREAD_FUNNELED, and a model on another thread than main: an error
//   too-few-at-once  MPI_THREAD_SERIALIZED: models on two threads that take turns, then an operation during another
//   no-mpi         a communicator before MPI_Init: an error
// Rank 0 prints what came of it.
#include <cstdio>
#include <string>
#include <thread>

#include <tessera/io.hpp>
#include <tessera/mpi.hpp>
#include <tessera/tessera.hpp>

using namespace tessera;

namespace {

using Model = Transformer<HeadWise, OnlineSoftmax, ScalarBackend>;

struct Golden {
  explicit Golden(const std::string& folder) : config(read_config(folder)), folder(folder) {
    const Safetensors expected(folder + "/golden.safetensors");
    for (const std::int64_t id : expected.at("input_ids").values<std::int64_t>())
      prompt.push_back(static_cast<token_t>(id));
    for (const std::int64_t id : expected.at("greedy_ids").values<std::int64_t>())
      greedy.push_back(static_cast<token_t>(id));
  }
  [[nodiscard]] Model model(Communicator comm) const {
    return {std::move(comm),
            config,
            load_weights(Checkpoint::open(folder), config),
            {.limits = {.max_tokens = 64, .max_positions = 128}}};
  }

  ModelConfig config;
  std::string folder;
  std::vector<token_t> prompt, greedy;
};

/// A model that makes one token at a time.
struct Talk {
  Talk(const Golden& golden, Communicator comm) : golden(golden), model(golden.model(std::move(comm))) {
    argmax(model.comm(), prefill(model, 0, golden.prompt, [](index_t) {}), {&next, 1});
  }
  void go_on() {
    said.push_back(next);
    const Chunk chunk{0, {&next, 1}, Wanted::last};
    argmax(model.comm(), model.step({&chunk, 1}), {&next, 1});
  }
  [[nodiscard]] bool finish() {
    while (said.size() < golden.greedy.size()) go_on();
    return said == golden.greedy;
  }

  const Golden& golden;
  Model model;
  Argmax argmax;
  token_t next = 0;
  std::vector<token_t> said;
};

bool side_by_side(const Golden& golden) {
  Communicator all = Mpi(MPI_COMM_WORLD);
  Talk first(golden, all.split(all.rank() % 2, 0)), second(golden, all);
  for (int i = 0; i < 8; ++i) {
    first.go_on();
    second.go_on();
  }
  return first.finish() && second.finish();
}

bool many_threads(const Golden& golden) {
  MPI_Comm own[2];
  for (MPI_Comm& comm : own) MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  bool good[2] = {false, false};
  {
    std::jthread first([&] { good[0] = Talk(golden, Mpi(own[0])).finish(); });
    std::jthread second([&] { good[1] = Talk(golden, Mpi(own[1])).finish(); });
  }
  for (MPI_Comm& comm : own) MPI_Comm_free(&comm);
  return good[0] && good[1];
}

/// What f throws on another thread.
template <class F>
std::string error_elsewhere(F&& f) {
  std::string text = "nothing was thrown";
  std::jthread([&] {
    try {
      f();
    } catch (const Error& error) {
      text = error.what();
    }
  }).join();
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string which = argc == 3 ? argv[1] : "";
  if (which == "no-mpi") {
    try {
      const Communicator comm = Mpi();
    } catch (const Error& error) {
      std::puts(error.what());
    }
  }
  const int wanted = which == "many-threads"      ? MPI_THREAD_MULTIPLE
                     : which == "too-few-at-once" ? MPI_THREAD_SERIALIZED
                                                  : MPI_THREAD_FUNNELED;
  int provided = 0, rank = 0;
  MPI_Init_thread(&argc, &argv, wanted, &provided);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  std::string text = "wrong ids";
  if (which == "many-threads" && provided < MPI_THREAD_MULTIPLE) {
    text = "as transformers";  // this MPI does not offer it
  } else if (which == "side-by-side" || which == "many-threads") {
    const Golden golden(argv[2]);
    if (which == "side-by-side" ? side_by_side(golden) : many_threads(golden)) text = "as transformers";
  } else if (which == "too-few") {
    text = error_elsewhere([] { const Communicator comm = Mpi(); });
  } else if (which == "too-few-at-once" && provided == MPI_THREAD_SERIALIZED) {
    Communicator comm = Mpi();
    text = error_elsewhere([&] { comm.barrier(); });  // in turn: allowed
    const detail::MpiCall call(provided);             // as if this thread were inside MPI now
    text += "; " + error_elsewhere([&] { comm.barrier(); });
  } else {
    text = "two call; several threads with a model each need MPI_Init_thread with MPI_THREAD_MULTIPLE";
  }
  if (rank == 0 && which != "no-mpi") std::puts(text.c_str());
  MPI_Finalize();
  return 0;
}
