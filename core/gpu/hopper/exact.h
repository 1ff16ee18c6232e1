// Queries computed again, one at a time, from nothing but what they attend to.
#pragma once

#include <cuda_runtime_api.h>

#include "core/gpu/hopper/parameters.h"
#include "core/tensor/element.h"

namespace nalab::gpu::hopper {

/// A tensor over tokens on the device; strides in elements.
struct DeviceTensor {
  void* data;
  int64_t batch, layout[kAxisCount], heads;
};

struct ExactParameters {
  ForwardParameters forward;
  DeviceTensor q, k, v, extra_k, extra_v, out;
  int32_t head_dim, head_dim_v;  ///< at most 128
  float scale;
};

/// Starts the computation of the suspects that the forward kernel has found: nothing if there are none. Returns
/// the status of this launch alone.
cudaError_t start_exact(const ExactParameters& parameters, ElementType type, cudaStream_t stream);

}  // namespace nalab::gpu::hopper
