#include "core/gpu/hopper/tensor_map.h"

#include <cudaTypedefs.h>

#include <string>

#include "core/error.h"
#include "core/gpu/hopper/cuda_error.h"

namespace nalab::gpu::hopper {

namespace {

/// Asked of the driver at run time: so nothing links to it.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    throw_on(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result),
             "looking up cuTensorMapEncodeTiled");
    if (function == nullptr) throw Error("the CUDA driver is too old: it has no tensor maps");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
  }();
  return found;
}

}  // namespace

CUtensorMap tensor_map(const char* name, const ConstTensorView& view, int64_t batch, const Group& group,
                       const int32_t (&dilation)[kAxisCount], const int32_t (&box)[kAxisCount]) {
  const auto bytes = static_cast<uint64_t>(size_of(view.type));
  const TokenStrides& strides = view.strides;
  // Dimensions from the innermost: channels, heads, axes 3, 2, 1.
  const cuuint64_t extents[5] = {static_cast<cuuint64_t>(view.shape.dim), static_cast<cuuint64_t>(view.shape.heads),
                                 static_cast<cuuint64_t>(group.length[2]), static_cast<cuuint64_t>(group.length[1]),
                                 static_cast<cuuint64_t>(group.length[0])};
  const cuuint32_t boxes[5] = {64, 1, static_cast<cuuint32_t>(box[2]), static_cast<cuuint32_t>(box[1]),
                               static_cast<cuuint32_t>(box[0])};
  cuuint64_t distances[4] = {static_cast<cuuint64_t>(strides.heads) * bytes};
  int64_t first = batch * strides.batch;
  for (int x = 0; x < kAxisCount; ++x) {
    first += group.first[x] * strides.layout[static_cast<std::size_t>(x)];
    distances[3 - x] = static_cast<cuuint64_t>(dilation[x] * strides.layout[static_cast<std::size_t>(x)]) * bytes;
  }
  const cuuint32_t every[5] = {1, 1, 1, 1, 1};
  auto* data = static_cast<char*>(const_cast<void*>(view.data)) + first * static_cast<int64_t>(bytes);
  CUtensorMap map;
  const CUresult result = encoder()(
      &map, view.type == ElementType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 5, data,
      extents, distances, boxes, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw Error(std::string(name) +
                ": no tensor map: its address and the strides of heads and tokens must be multiples of 16 bytes");
  }
  return map;
}

}  // namespace nalab::gpu::hopper
