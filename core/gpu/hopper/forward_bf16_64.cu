#include "core/gpu/hopper/select.cuh"

namespace nalab::gpu::hopper {

Kernel forward_bf16_64(const TileShape& shape) { return select_kernel<__nv_bfloat16, 64>(shape); }

}  // namespace nalab::gpu::hopper
