// The fused machinery as other variants call it.
#pragma once

#include "core/kernels/attention.h"

namespace nalab::fused {

/// Forward pass of a valid problem; the workspace holds at least workspace_bytes().
void forward(const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution);

/// Backward pass of a valid problem; the workspace holds at least workspace_bytes().
void backward(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution);

/// Threads times the working set of a tile; backward in f16 and bf16 also the gradients of k and v in float.
int64_t workspace_bytes(const Problem& problem, Pass pass, int threads);
int64_t backward_workspace_bytes(const Problem& problem, int threads);

/// FLOPs of all visited (query lane, key) pairs.
int64_t executed_flops(const Problem& problem, Pass pass);

}  // namespace nalab::fused
