// Tensor maps: what TMA must know to move boxes of a heads-last tensor.
#pragma once

#include <cuda.h>

#include "core/gpu/plan_data.h"
#include "core/tensor/tensor.h"

namespace nalab::gpu::hopper {

/// Boxes of `box` tokens, 64 channels and one head, swizzled by 128 bytes, of a dilation group of a batch entry of a
/// tensor on the device. Outside of the tensor they read zeros. Throws Error that names the tensor if it cannot be.
CUtensorMap tensor_map(const char* name, const ConstTensorView& view, int64_t batch, const Group& group,
                       const int32_t (&dilation)[kAxisCount], const int32_t (&box)[kAxisCount]);

}  // namespace nalab::gpu::hopper
