// The fused machinery as other variants call it.
#pragma once

#include "core/kernels/attention.h"
#include "core/kernels/fused/tiles.h"

namespace nalab::fused {

/// Forward pass of a valid problem; the workspace holds at least workspace_bytes().
void forward(const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution,
             KvTiling tiling = KvTiling::dynamic_tiles);

/// What forward does before it computes: packs queries, keys and values, and lists the keys of the query tiles.
void pack(const Problem& problem, const Inputs& inputs, const Execution& execution,
          KvTiling tiling = KvTiling::dynamic_tiles);

/// Backward pass of a valid problem; the workspace holds at least workspace_bytes().
void backward(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution, KvTiling tiling = KvTiling::dynamic_tiles);

/// Threads times the working set of a tile; backward in f16 and bf16 also the gradients of k and v in float.
int64_t workspace_bytes(const Problem& problem, Pass pass, int threads, KvTiling tiling = KvTiling::dynamic_tiles);
int64_t backward_workspace_bytes(const Problem& problem, const Tiles& tiles, int threads);

/// FLOPs of all visited (query lane, key) pairs.
int64_t executed_flops(const Problem& problem, Pass pass, KvTiling tiling = KvTiling::dynamic_tiles);

}  // namespace nalab::fused
