#pragma once
// Attention whose keys lie in stripes on several ranks: each rank attends to its stripe with all heads, and what it
// finds travels to the rank that holds the head, in the way that the softmax policy allows.

#include <tessera/policies/gather_scores.hpp>
#include <tessera/policies/merge_states.hpp>

namespace tessera {

/// Attention on every stripe, then MergeStates or GatherScores, as the softmax has it.
class StripedAttention {
 public:
  explicit StripedAttention(const StripedContext& context) : merge_(context), gather_(context) {}

  /// `problem` asks for all heads over the local stripe of `layout`; `out` [rows, heads of this rank * head_dim] is
  /// over the keys of all stripes.
  template <SoftmaxPolicy Softmax, SimdBackend B>
  void attend(Worker& worker, const AttentionProblem& problem, const Step& step, const CacheLayout& layout,
              Activations out) {
    static_assert(
        MergeableSoftmax<Softmax> || GatherableSoftmax<Softmax>,
        "a KV cache striped over ranks (Sequence, Helix) needs a MergeableSoftmax, which has attend_more, or a "
        "GatherableSoftmax, which has scores, normalize_row and weigh; see policies/softmax.hpp. HeadWise "
        "needs attend alone");
    if constexpr (MergeableSoftmax<Softmax>)
      merge_.template attend<Softmax, B>(worker, problem, step, layout, out);
    else
      gather_.template attend<Softmax, B>(worker, problem, step, layout, out);
  }

 private:
  MergeStates merge_;  // pages of the one that is not used are never touched
  GatherScores gather_;
};

}  // namespace tessera
