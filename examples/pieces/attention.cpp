// Attention over the ranks on tensors of one's own: each rank holds some tokens of a sequence, and their queries see
// the keys of all ranks.   g++ -std=c++20 -O2 -Iinclude examples/pieces/attention.cpp -o attention -pthread &&
// ./attention
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/nn/distributed_attention.hpp>
using namespace tessera;

constexpr index_t tokens = 50, heads = 4, kv_heads = 2, head_dim = 8;

// What a program of one's own has: values of token t, head h and place d, in its own layout.
float number(int kind, index_t t, index_t h, index_t d) {
  return std::sin(static_cast<float>(kind + 3 * t + 7 * h) + 0.5F * static_cast<float>(d * (kind + 1)));
}

// Results of the tokens that this rank computes, at their places among all.
std::vector<float> attend(Communicator comm) {
  DistributedAttention<Sequence<>> attention(comm, {heads, kv_heads, head_dim},
                                             {.limits = {.max_tokens = tokens, .max_positions = 64}});
  const NewTokens step[] = {{.sequence = 0, .count = tokens}};
  const RowSet mine = attention.plan(step).computed;  // the tokens of this rank
  const index_t rows = mine.size();

  std::vector<float> q(static_cast<std::size_t>(rows * heads * head_dim)), out(q.size());
  std::vector<float> k(static_cast<std::size_t>(rows * kv_heads * head_dim)), v(k.size());
  const auto fill = [&](int kind, std::vector<float>& tensor, index_t n) {
    const TensorView<float, 3> view(tensor.data(), {rows, n, head_dim});  // or a std::mdspan
    for (index_t i = 0; i < rows; ++i)
      for (index_t h = 0; h < n; ++h)
        for (index_t d = 0; d < head_dim; ++d) view(i, h, d) = number(kind, mine[i], h, d);
    return view;
  };
  attention.step(step, fill(0, q, heads), fill(1, k, kv_heads), fill(2, v, kv_heads), fill(3, out, heads));

  std::vector<float> all(static_cast<std::size_t>(tokens * heads * head_dim), 0);
  for (index_t i = 0; i < rows; ++i)
    std::copy_n(out.data() + i * heads * head_dim, heads * head_dim, all.data() + mine[i] * heads * head_dim);
  comm.allreduce(all);  // only to compare: each token's row comes from one rank
  return all;
}

int main() {
  const std::vector<float> alone = attend(Loopback());
  float worst = 0;
  for (const std::vector<float>& found : InProcess::run(4, attend))
    for (std::size_t i = 0; i < alone.size(); ++i) worst = std::max(worst, std::abs(found[i] - alone[i]));
  std::printf("%zu results on four ranks as on one: %s\n", alone.size(), worst < 1e-5F ? "yes" : "no");
  return worst < 1e-5F ? 0 : 1;
}
