#include "core/gpu/hopper/select.cuh"

namespace nalab::gpu::hopper {

Kernel forward_bf16_128(const TileShape& shape) { return select_kernel<__nv_bfloat16, 128>(shape); }

}  // namespace nalab::gpu::hopper
