#include "core/gpu/hopper/select.cuh"

namespace nalab::gpu::hopper {

Kernel forward_f16_64(const TileShape& shape) { return select_kernel<__half, 64>(shape); }

}  // namespace nalab::gpu::hopper
