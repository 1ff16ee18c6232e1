// The fused machinery as other variants call it.
#pragma once

#include "core/kernels/attention.h"

namespace nalab::fused {

/// Forward pass of a valid problem; the workspace holds at least workspace_bytes().
void forward(const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution);

/// Threads times the working set of a tile.
int64_t workspace_bytes(const Problem& problem, int threads);

/// FLOPs of all visited (query lane, key) pairs.
int64_t executed_flops(const Problem& problem);

}  // namespace nalab::fused
