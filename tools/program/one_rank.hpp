#pragma once
// What is right where no other program says so: what one rank finds.

#include "program/golden.hpp"

namespace tessera::program {

/// Replaces the logits and greedy ids of `golden` by those that one rank finds for `weights`, with the golden's prompt
/// and cache, on the scalar or the native backend.
void expect_one_rank(Golden& golden, const ModelWeights& weights, std::string_view backend = "scalar");

}  // namespace tessera::program
