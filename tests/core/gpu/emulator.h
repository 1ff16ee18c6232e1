// What the GPU kernel computes, one scalar operation after the other: the walk of a plan in the kernel's order, with
// its online softmax and its roundings.
#pragma once

#include <vector>

#include "core/gpu/plan.h"
#include "core/tensors.h"

namespace nalab::gpu::test {

struct Emulated {
  std::vector<float> out;   ///< [batch, X..., heads, head_dim_v]
  std::vector<float> lse;   ///< [batch, X..., heads]
  std::vector<int> writes;  ///< of each entry of lse
  int64_t rescaled = 0;     ///< rows whose sums were brought to a new maximum, the first one not counted
};

/// Requires a plan of the problem, whose type is bf16 or f16.
Emulated emulate(const TilePlan& plan, const Problem& problem, const Inputs& inputs);

}  // namespace nalab::gpu::test
