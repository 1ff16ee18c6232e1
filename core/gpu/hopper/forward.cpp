#include <cuda_runtime_api.h>
#include <cmath>

#include <vector>

#include "core/error.h"
#include "core/gpu/hopper/cuda_error.h"
#include "core/gpu/hopper/device_memory.h"
#include "core/gpu/hopper/exact.h"
#include "core/gpu/hopper/hopper.h"
#include "core/gpu/hopper/kernels.h"
#include "core/gpu/hopper/parameters.h"
#include "core/gpu/hopper/tensor_map.h"

namespace nalab::gpu::hopper {

namespace {

constexpr int64_t kMostDim = 128;
/// Scales nearer to zero count as this: times -1e30 it still masks, and scores that bf16 can hold stay equal.
constexpr double kLeastScale = 1e-20;

/// Memory of the device.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(std::size_t size) : data_(allocate(size * sizeof(T))) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    throw_on(cudaMemcpy(data_.get(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
             "copying a plan");
  }
  T* data() const { return static_cast<T*>(data_.get()); }

 private:
  DeviceMemory data_;
};

Kernel kernel_for(const Problem& problem, const TileShape& shape) {
  const bool wide = padded_dim(problem) > 64;
  if (problem.type == ElementType::f16) return wide ? forward_f16_128(shape) : forward_f16_64(shape);
  return wide ? forward_bf16_128(shape) : forward_bf16_64(shape);
}

/// Lets a kernel have the shared memory that it needs. The limit is the kernel's, not the call's: it only ever grows.
void allow_shared_memory(const Kernel& kernel) {
  cudaFuncAttributes attributes;
  throw_on(cudaFuncGetAttributes(&attributes, kernel.function), "loading a kernel");
  if (attributes.maxDynamicSharedSizeBytes >= kernel.shared_bytes) return;
  throw_on(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                static_cast<int>(kernel.shared_bytes)),
           "asking for shared memory");
}

/// Throws Error if a query tile has more inner biases than shared memory has room for: they would overrun it.
void check_biases(const TilePlan& plan) {
  const TileShape& shape = plan.shape();
  if (shape.mask != MaskMode::one_hot) return;
  for (const QueryTile& tile : plan.query_tiles) {
    const AxisTile& inner = plan.axis_tiles[static_cast<std::size_t>(tile.axis_tile[shape.loop[2]])];
    for (int w = 0; w < kWarpgroups; ++w) {
      const Span any = inner.any[w], full = inner.full[w];
      if (1 + (any.end - any.begin) - (full.end - full.begin) > shape.bias_slots) {
        throw Error("hopper: the tiles " + to_string(shape) + " have room for fewer biases than the plan needs");
      }
    }
  }
}

template <class View>
DeviceTensor device_tensor(const View& view) {
  const TokenStrides& s = view.strides;
  return {const_cast<void*>(static_cast<const void*>(view.data)),
          s.batch,
          {s.layout[0], s.layout[1], s.layout[2]},
          s.heads};
}

}  // namespace

std::optional<std::string> unsupported(const Problem& problem) {
  if (problem.type == ElementType::f32) return "computes bf16 and f16 only";
  if (problem.relative_bias) return "adds no relative positional bias";
  if (std::max(problem.head_dim, problem.head_dim_v) > kMostDim) {
    return "takes head_dim and head_dim_v up to " + std::to_string(kMostDim);
  }
  if (problem.head_dim % 8 != 0 || problem.head_dim_v % 8 != 0) {
    return "takes multiples of 8 as head_dim and head_dim_v: the GPU moves 16 bytes at a time";
  }
  if (problem.heads > 65535 || problem.batch > 65535) return "takes at most 65535 heads, and as many batch entries";
  return std::nullopt;
}

struct Forward::Impl {
  ElementType type;
  Kernel kernel;
  dim3 grid;
  DeviceArray<Group> groups;
  DeviceArray<AxisTile> axis_tiles;
  DeviceArray<KeyRange> key_ranges;
  DeviceArray<QueryTile> query_tiles;
  DeviceArray<GroupMaps> maps;
  DeviceArray<ExtraMaps> extra_maps;
  DeviceArray<int64_t> suspects;
  DeviceArray<unsigned int> suspect_count;
  ExactParameters parameters;
};

Forward::Forward(const Problem& problem, const TilePlan& plan, const Inputs& inputs, const Outputs& outputs)
    : impl_(std::make_unique<Impl>()) {
  if (const auto reason = unsupported(problem)) throw Error("hopper " + *reason);
  const TileShape& shape = plan.shape();
  const auto axes = problem.axes3();
  impl_->type = problem.type;
  impl_->kernel = kernel_for(problem, shape);
  if (impl_->kernel.function == nullptr) throw Error("hopper has no kernel for the tiles " + to_string(shape));
  check_biases(plan);
  impl_->grid = dim3(static_cast<unsigned>(plan.header.query_tiles), static_cast<unsigned>(problem.heads),
                     static_cast<unsigned>(problem.batch));
  allow_shared_memory(impl_->kernel);

  int32_t dilation[kAxisCount];
  for (int x = 0; x < kAxisCount; ++x) dilation[x] = static_cast<int32_t>(axes[static_cast<std::size_t>(x)].dilation);
  std::vector<GroupMaps> maps;
  std::vector<ExtraMaps> extra_maps;
  for (int64_t b = 0; b < problem.batch; ++b) {
    for (const Group& group : plan.groups) {
      maps.push_back({tensor_map("q", inputs.q, b, group, dilation, shape.warpgroup),
                      tensor_map("k", inputs.k, b, group, dilation, shape.kv),
                      tensor_map("v", inputs.v, b, group, dilation, shape.kv),
                      tensor_map("out", outputs.out, b, group, dilation, shape.warpgroup)});
    }
    if (problem.extra_tokens == 0) continue;
    const Group tokens{{0, 0, 0}, {1, 1, plan.header.extra_tokens}};
    const int32_t box[kAxisCount] = {1, 1, shape.keys};
    extra_maps.push_back({tensor_map("extra_k", inputs.extra_k, b, tokens, {1, 1, 1}, box),
                          tensor_map("extra_v", inputs.extra_v, b, tokens, {1, 1, 1}, box)});
  }
  impl_->groups = DeviceArray(plan.groups);
  impl_->axis_tiles = DeviceArray(plan.axis_tiles);
  impl_->key_ranges = DeviceArray(plan.key_ranges);
  impl_->query_tiles = DeviceArray(plan.query_tiles);
  impl_->maps = DeviceArray(maps);
  if (!extra_maps.empty()) impl_->extra_maps = DeviceArray(extra_maps);
  impl_->suspects = DeviceArray<int64_t>(plan.query_tiles.size() * kConsumerWarps *
                                         static_cast<std::size_t>(problem.heads * problem.batch));
  impl_->suspect_count = DeviceArray<unsigned int>(1);

  const double scale = problem.effective_scale();
  ForwardParameters& p = impl_->parameters.forward;
  p.plan = plan.header;
  p.groups = impl_->groups.data();
  p.axis_tiles = impl_->axis_tiles.data();
  p.key_ranges = impl_->key_ranges.data();
  p.query_tiles = impl_->query_tiles.data();
  p.maps = impl_->maps.data();
  p.extra_maps = impl_->extra_maps.data();
  p.group_count = static_cast<int32_t>(plan.groups.size());
  p.heads = static_cast<int32_t>(problem.heads);
  p.heads_kv = static_cast<int32_t>(problem.heads_kv);
  std::copy_n(dilation, kAxisCount, p.dilation);
  p.sign = scale < 0 ? -1.0f : scale > 0 ? 1.0f : 0.0f;
  p.scale_log2 = static_cast<float>((scale == 0 ? 1 : std::max(std::abs(scale), kLeastScale)) * 1.4426950408889634);
  p.largest_lse = largest_lse(problem);
  const TokenStrides& lse = outputs.lse.strides;
  p.lse = {static_cast<float*>(outputs.lse.data), lse.batch, {lse.layout[0], lse.layout[1], lse.layout[2]}, lse.heads};
  p.suspects = impl_->suspects.data();
  p.suspect_count = impl_->suspect_count.data();
  impl_->parameters.q = device_tensor(inputs.q);
  impl_->parameters.k = device_tensor(inputs.k);
  impl_->parameters.v = device_tensor(inputs.v);
  impl_->parameters.extra_k = device_tensor(inputs.extra_k);
  impl_->parameters.extra_v = device_tensor(inputs.extra_v);
  impl_->parameters.out = device_tensor(outputs.out);
  impl_->parameters.head_dim = static_cast<int32_t>(problem.head_dim);
  impl_->parameters.head_dim_v = static_cast<int32_t>(problem.head_dim_v);
  impl_->parameters.scale = static_cast<float>(scale);
}

Forward::~Forward() = default;

void Forward::run(void* stream) const {
  auto* const on = static_cast<cudaStream_t>(stream);
  throw_on(cudaMemsetAsync(impl_->suspect_count.data(), 0, sizeof(unsigned int), on), "clearing a counter");
  ForwardParameters parameters = impl_->parameters.forward;
  void* arguments[] = {&parameters};
  throw_on(cudaLaunchKernel(impl_->kernel.function, impl_->grid, dim3(kThreads), arguments,
                            static_cast<std::size_t>(impl_->kernel.shared_bytes), on),
           "starting the forward kernel");
  throw_on(start_exact(impl_->parameters, impl_->type, on), "starting the exact kernel");
}

int64_t Forward::recomputed() const {
  unsigned int count = 0;
  throw_on(cudaMemcpy(&count, impl_->suspect_count.data(), sizeof count, cudaMemcpyDeviceToHost), "reading a counter");
  return count;
}

}  // namespace nalab::gpu::hopper
