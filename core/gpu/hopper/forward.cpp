#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/error.h"
#include "core/gpu/alignment.h"
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
/// Kernels count them in 32 bits, and beyond them as far as there are thread blocks.
constexpr int64_t kMostItems = int64_t{1} << 31;
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

/// Of the current device.
int multiprocessors() {
  int device = 0, count = 0;
  throw_on(cudaGetDevice(&device), "finding a device");
  throw_on(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "counting multiprocessors");
  return count;
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
  return std::nullopt;
}

struct Forward::Impl {
  ElementType type;
  Kernel kernel;
  unsigned blocks;
  DeviceArray<Group> groups;
  DeviceArray<AxisTile> axis_tiles;
  DeviceArray<KeyRange> key_ranges;
  DeviceArray<QueryTile> query_tiles;
  DeviceArray<GroupMaps> maps;
  DeviceArray<ExtraMaps> extra_maps;
  DeviceArray<int64_t> suspects;
  DeviceArray<Counters> counters;
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
  check_alignment(outputs.out);  // what is loaded is checked with its tensor map
  const int64_t items = plan.header.query_tiles * problem.heads * problem.batch;
  if (items > kMostItems) throw Error("hopper takes at most " + std::to_string(kMostItems) + " query tiles in all");
  impl_->blocks = static_cast<unsigned>(std::min(int64_t{multiprocessors()}, items));
  allow_shared_memory(impl_->kernel);

  int32_t dilation[kAxisCount];
  for (int x = 0; x < kAxisCount; ++x) dilation[x] = static_cast<int32_t>(axes[static_cast<std::size_t>(x)].dilation);
  std::vector<GroupMaps> maps;
  std::vector<ExtraMaps> extra_maps;
  for (int64_t b = 0; b < problem.batch; ++b) {
    for (const Group& group : plan.groups) {
      maps.push_back({tensor_map("q", inputs.q, b, group, dilation, shape.warpgroup),
                      tensor_map("k", inputs.k, b, group, dilation, shape.kv),
                      tensor_map("v", inputs.v, b, group, dilation, shape.kv)});
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
  impl_->counters = DeviceArray<Counters>(1);

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
  p.batch = static_cast<int32_t>(problem.batch);
  p.heads = static_cast<int32_t>(problem.heads);
  p.heads_of_kv = static_cast<int32_t>(problem.heads / problem.heads_kv);
  p.head_dim_v = static_cast<int32_t>(problem.head_dim_v);
  std::copy_n(dilation, kAxisCount, p.dilation);
  p.sign = scale < 0 ? -1.0f : scale > 0 ? 1.0f : 0.0f;
  p.scale_log2 = static_cast<float>((scale == 0 ? 1 : std::max(std::abs(scale), kLeastScale)) * 1.4426950408889634);
  p.largest_lse = largest_lse(problem);
  p.out = device_tensor(outputs.out);
  p.lse = device_tensor(outputs.lse);
  p.suspects = impl_->suspects.data();
  p.counters = impl_->counters.data();
  impl_->parameters.q = device_tensor(inputs.q);
  impl_->parameters.k = device_tensor(inputs.k);
  impl_->parameters.v = device_tensor(inputs.v);
  impl_->parameters.extra_k = device_tensor(inputs.extra_k);
  impl_->parameters.extra_v = device_tensor(inputs.extra_v);
  impl_->parameters.head_dim = static_cast<int32_t>(problem.head_dim);
  impl_->parameters.scale = static_cast<float>(scale);
}

Forward::~Forward() = default;

void Forward::run(void* stream) const {
  auto* const on = static_cast<cudaStream_t>(stream);
  throw_on(cudaMemsetAsync(impl_->counters.data(), 0, sizeof(Counters), on), "clearing counters");
  ForwardParameters parameters = impl_->parameters.forward;
  void* arguments[] = {&parameters};
  throw_on(cudaLaunchKernel(impl_->kernel.function, dim3(impl_->blocks), dim3(kThreads), arguments,
                            static_cast<std::size_t>(impl_->kernel.shared_bytes), on),
           "starting the forward kernel");
  throw_on(start_exact(impl_->parameters, impl_->type, on), "starting the exact kernel");
}

int64_t Forward::recomputed() const {
  Counters counters{};
  throw_on(cudaMemcpy(&counters, impl_->counters.data(), sizeof counters, cudaMemcpyDeviceToHost), "reading counters");
  return counters.suspects;
}

}  // namespace nalab::gpu::hopper
