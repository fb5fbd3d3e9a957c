// A model on kernels that cost time: they owe what the formula says, touch nothing, and leave communication as it is.
#include <sys/mman.h>

#include <tessera/comm/in_process.hpp>
#include <tessera/models/transformer.hpp>
#include <tessera/simulate/cost_kernels.hpp>
#include <tessera/simulate/unread_weights.hpp>

#include "catch.hpp"
#include "program/golden.hpp"

using namespace tessera;

namespace {

MachineModel round_machine() {
  MachineModel m;
  m.threads = 4, m.flops = 1e9, m.memory = 1e8, m.copy = 1e7, m.start = 1e-6;
  m.products = Share({{1, 0.25}, {16, 0.75}});
  m.reading = 0.5, m.reading_keys = 0.8;
  return m;
}

/// What the calls made this rank owe.
template <class Act>
double owed_for(Act&& act) {
  CostAccount& account = CostBackend::account();
  account.machine = round_machine(), account.owed = 0;
  act();
  return std::exchange(account.owed, 0.0);
}

/// Of a rank: what it asked of its communicator in a prompt and a token, and what it owed in the end.
struct Owed {
  Ledger ledger;
  double owed = 0;
};

template <class Backend>
std::vector<Owed> run(int ranks, const ModelConfig& config, const ModelWeights& weights) {
  return InProcess::run(ranks, [&](Communicator world) {
    CostBackend::account() = {round_machine(), 0};
    const auto [comm, ledger] = record(world);
    Transformer<Sequence<>, OnlineSoftmax, Backend> model(comm, config, weights,
                                                          {.limits = {.max_tokens = 24, .max_positions = 64}});
    const std::vector<token_t> prompt(37, 5);
    const auto step = [&](index_t begin, index_t count) {
      const Chunk chunk{0, std::span(prompt).subspan(std::size_t(begin), std::size_t(count)), Wanted::last};
      model.step({&chunk, 1});
    };
    step(0, 24), step(24, 12), step(36, 1);
    return Owed{*ledger, CostBackend::account().owed};
  });
}

}  // namespace

TEST_CASE("a share of a limit is what was measured, and between two sizes on the line of the logarithm") {
  const Share share({{1, 0.25}, {16, 0.75}});
  CHECK(share.at(0.5) == 0.25);
  CHECK(share.at(1) == 0.25);
  CHECK(share.at(4) == Approx(0.5));
  CHECK(share.at(16) == 0.75);
  CHECK(share.at(1e9) == 0.75);
  CHECK_THROWS_WITH(Share({{2, 0.5}, {2, 0.6}}), Catch::Contains("sizes of shares must grow, found 2"));
  CHECK_THROWS_WITH(Share({{2, 0.0}}), Catch::Contains("found 0"));
}

TEST_CASE("kernels of cost owe what the formula says, and touch no operand") {
  // What is touched here ends the test.
  void* const forbidden = ::mmap(nullptr, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(forbidden != MAP_FAILED);
  auto* const floats = static_cast<float*>(forbidden);
  const WeightView weight{forbidden, DType::bf16, 64, 96, 96};
  const double one = owed_for([&] {
    Team(1).run([&](Worker& worker) {
      project<CostBackend>(worker, ConstActivations(floats, 1, 96),
                           std::array{Projection{weight, nullptr, Activations(floats, 1, 64)}});
    });
  });
  // Bytes: two for each weight, four for what comes and goes; half of 1e8 a second is reached.
  CHECK(one == Approx(1e-6 + (2 * 64 * 96 + 4 * (64 + 96)) / 0.5e8).epsilon(1e-12));
  const double many = owed_for([&] {
    Team(1).run([&](Worker& worker) {
      project_gated<CostBackend>(worker, ConstActivations(floats, 100, 96), weight, weight,
                                 Activations(floats, 100, 64));
    });
  });
  CHECK(many == Approx(1e-6 + 2.0 * 100 * 128 * 96 / (1e9 * 0.75)).epsilon(1e-12));  // flops, of which 75 % are reached
  const index_t visible[] = {50, 51};
  const AttentionTask task{0, 2, KeyValueView::of_floats(floats, floats, 64 * 8, 8), visible};
  const AttentionProblem problem{{4, 8, 2, 0}, 1, ConstActivations(floats, 2, 32), {&task, 1}};
  const double attention = owed_for([&] {
    Team(1).run(
        [&](Worker& worker) { OnlineSoftmax::attend<CostBackend>(worker, problem, Activations(floats, 2, 32)); });
  });
  CHECK(attention == Approx(2e-6 + 2.0 * 51 * 2 * 8 * 4 / 0.8e8).epsilon(1e-12));  // reads 51 keys of two heads
  const double copied = owed_for([&] {
    if (copy_floats<CostBackend>(floats, 1000, floats + 2000) != floats + 3000) throw Error("another end");
  });
  CHECK(copied == Approx(4000 / 1e7).epsilon(1e-12));
  ::munmap(forbidden, 1 << 20);
}

TEST_CASE("a model whose kernels cost time asks of its communicator what one that computes asks") {
  const program::Golden golden = program::load_golden(TESSERA_GOLDEN "/qwen3-tiny");
  const auto computed = run<XsimdBackend<>>(3, golden.config, golden.weights);
  const auto costed = run<CostBackend>(3, golden.config, unread_weights(golden.config));
  const auto again = run<CostBackend>(3, golden.config, unread_weights(golden.config));
  for (std::size_t r = 0; r < costed.size(); ++r) {
    for (int k = 0; k < collective_kinds; ++k) {
      const Tally expected = computed[r].ledger[static_cast<Collective>(k)];
      const Tally found = costed[r].ledger[static_cast<Collective>(k)];
      CHECK(found.calls == expected.calls);
      CHECK(found.payload_bytes == expected.payload_bytes);
      CHECK(found.wire_bytes == expected.wire_bytes);
    }
    CHECK(computed[r].owed == 0);
    CHECK(costed[r].owed > 0);
    CHECK(costed[r].owed == again[r].owed);
  }
}

namespace {

/// Times that the threads of a rank meet in a decoder layer of a token behind 40.
template <class Sharding>
std::int64_t meetings_in_a_layer(const ModelConfig& config, const ModelWeights& weights) {
  return InProcess::run(2,
                        [&](Communicator comm) {
                          Trace trace(2, 4096);
                          Transformer<Sharding, OnlineSoftmax, XsimdBackend<>> model(
                              comm, config, weights,
                              {.limits = {.max_tokens = 40, .max_positions = 64}, .threads = 2, .trace = &trace});
                          const std::vector<token_t> prompt(40, 5);
                          const Chunk all{0, prompt, Wanted::last}, one{0, std::span(prompt).first(1), Wanted::last};
                          model.step({&all, 1});
                          trace.record(true);
                          model.step({&one, 1});
                          trace.record(false);
                          const auto events = trace.lane(0).events();
                          const auto layer = std::find_if(events.begin(), events.end(), [](const TraceEvent& e) {
                            return e.name == &trace_layer && e.number == 1;
                          });
                          return std::count_if(events.begin(), events.end(), [&](const TraceEvent& e) {
                            return e.name == &trace_barrier && e.begin >= layer->begin && e.end <= layer->end;
                          });
                        })
      .front();
}

/// What a layer of that token owes on a machine where nothing costs time but a meeting, which costs a second.
template <class Sharding>
double meetings_owed(const ModelConfig& config) {
  const auto owed_of = [&](index_t layers) {
    ModelConfig part = config;
    part.layers = layers;
    return InProcess::run(2,
                          [&](Communicator comm) {
                            MachineModel m;
                            m.flops = m.memory = m.copy = m.cached_copy = 1e30, m.start = 1;
                            CostBackend::account() = {m, 0};
                            Transformer<Sharding, OnlineSoftmax, CostBackend> model(
                                comm, part, unread_weights(part), {.limits = {.max_tokens = 40, .max_positions = 64}});
                            const std::vector<token_t> prompt(40, 5);
                            const Chunk all{0, prompt, Wanted::last}, one{0, std::span(prompt).first(1), Wanted::last};
                            model.step({&all, 1});
                            CostBackend::account().owed = 0;
                            model.step({&one, 1});
                            return CostBackend::account().owed;
                          })
        .front();
  };
  return owed_of(2) - owed_of(1);
}

}  // namespace

TEST_CASE("threads of a simulated rank meet about as often in decode as those of a real one") {
  const program::Golden golden = program::load_golden(TESSERA_GOLDEN "/qwen3-tiny");
  // Whether they meet once more to merge what they found of a head depends on how its keys are cut; and where rows are
  // stored that no other rank has sent, as under HeadWise, the model has a meeting too many.
  const auto within_two = [](std::int64_t real, double owed) {
    return owed >= static_cast<double>(real) && owed <= static_cast<double>(real + 2);
  };
  const auto helix = meetings_in_a_layer<Sequence<>>(golden.config, golden.weights);
  CAPTURE(helix, meetings_owed<Sequence<>>(golden.config));
  CHECK(within_two(helix, meetings_owed<Sequence<>>(golden.config)));
  const auto headwise = meetings_in_a_layer<HeadWise>(golden.config, golden.weights);
  CAPTURE(headwise, meetings_owed<HeadWise>(golden.config));
  CHECK(within_two(headwise, meetings_owed<HeadWise>(golden.config)));
}
