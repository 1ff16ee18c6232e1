// Queries computed again, one at a time, from nothing but what they attend to.
#pragma once

#include <cuda_runtime_api.h>

#include "core/gpu/hopper/parameters.h"
#include "core/tensor/element.h"

namespace nalab::gpu::hopper {

struct ExactParameters {
  ForwardParameters forward;
  DeviceTensor q, k, v, extra_k, extra_v;
  int32_t head_dim;  ///< at most 128, as head_dim_v
  float scale;
};

/// Starts the computation of the suspects that the forward kernel has found: nothing if there are none. Returns
/// the status of this launch alone.
cudaError_t start_exact(const ExactParameters& parameters, ElementType type, cudaStream_t stream);

}  // namespace nalab::gpu::hopper
