// The compiled forward kernels.
#pragma once

#include "core/gpu/plan_data.h"

namespace nalab::gpu::hopper {

/// A kernel for cudaLaunchKernel with ForwardParameters, and the shared memory that it needs.
struct Kernel {
  const void* function = nullptr;  ///< null if there is none
  int64_t shared_bytes = 0;
};

Kernel forward_bf16_64(const TileShape& shape);
Kernel forward_bf16_128(const TileShape& shape);
Kernel forward_f16_64(const TileShape& shape);
Kernel forward_f16_128(const TileShape& shape);

}  // namespace nalab::gpu::hopper
