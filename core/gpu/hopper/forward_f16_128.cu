#include "core/gpu/hopper/select.cuh"

namespace nalab::gpu::hopper {

Kernel forward_f16_128(const TileShape& shape) { return select_kernel<__half, 128>(shape); }

}  // namespace nalab::gpu::hopper
