#include "program/one_rank.hpp"

#include <tessera/comm/loopback.hpp>

#include "program/combinations.hpp"

namespace tessera::program {

void expect_one_rank(Golden& golden, const ModelWeights& weights, std::string_view backend) {
  const auto model = reference_combination(backend).make(Communicator(Loopback{}), golden.config, weights,
                                                         {.limits = limits_of(golden)});
  const Chunk chunk{0, golden.prompt, Wanted::all};
  const Logits logits = model->step({&chunk, 1});
  golden.logits.assign(logits.local.data, logits.local.data + logits.local.rows * logits.local.cols);
  model->truncate(0, 0);
  golden.greedy = run_golden(*model, golden, {1 << 20}).greedy;
}

}  // namespace tessera::program
