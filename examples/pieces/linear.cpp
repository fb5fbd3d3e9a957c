// A feed-forward block whose two weights are split over three ranks: the first by its outputs, the second by its
// inputs, one sum at the end.   g++ -std=c++20 -O2 -Iinclude examples/pieces/linear.cpp -o linear -pthread && ./linear
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/nn/parallel_linear.hpp>
#include <tessera/parallel/team.hpp>
using namespace tessera;

constexpr index_t rows = 5, inputs = 24, hidden = 100, outputs = 16;

std::vector<float> numbers(index_t n, float phase) {
  std::vector<float> values(static_cast<std::size_t>(n));
  for (index_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = std::sin(phase * static_cast<float>(i + 1));
  return values;
}

// y = W2 tanh(W1 x + b), the same on every rank.
std::vector<float> block(Communicator comm) {
  // Whole weights, as a mapped file shows them: each rank reads its part in place. They may be bf16 or f16 as well.
  const std::vector<float> w1 = numbers(hidden * inputs, 0.7F), b = numbers(hidden, 0.3F);
  const std::vector<float> w2 = numbers(outputs * hidden, 0.9F), x = numbers(rows * inputs, 0.2F);
  const ColumnParallelLinear<> first(comm, {w1.data(), DType::f32, hidden, inputs, inputs}, b.data());
  RowParallelLinear<> second(comm, {w2.data(), DType::f32, outputs, hidden, hidden});

  std::vector<float> h(static_cast<std::size_t>(rows * first.outputs().size()));
  std::vector<float> y(static_cast<std::size_t>(rows * outputs));
  const Activations h_view(h.data(), rows, first.outputs().size());
  Team(2).run([&](Worker& worker) {  // two threads for each rank; all call the same
    first(worker, ConstActivations(x.data(), rows, inputs), h_view);
    const Range mine = worker.share(static_cast<index_t>(h.size()));
    for (index_t i = mine.begin; i < mine.end; ++i) h_view.data[i] = std::tanh(h_view.data[i]);
    worker.barrier();
    second(worker, h_view, Activations(y.data(), rows, outputs));
  });
  return y;
}

int main() {
  const std::vector<float> alone = block(Loopback());
  float worst = 0;
  for (const std::vector<float>& found : InProcess::run(3, block))
    for (std::size_t i = 0; i < alone.size(); ++i) worst = std::max(worst, std::abs(found[i] - alone[i]));
  std::printf("%zu results on three ranks as on one: %s\n", alone.size(), worst < 1e-4F ? "yes" : "no");
  return worst < 1e-4F ? 0 : 1;
}
