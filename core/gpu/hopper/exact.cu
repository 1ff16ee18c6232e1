// Products of whole tiles let NaN and infinities of keys that a query does not attend to reach it: 0 times NaN is NaN.
// Such a result is never finite. And where products of bf16 are as great as the bias that masks them, a masked score
// may be the greatest of all: lse is then huge (largest_lse() in core/gpu/plan.h). The forward kernel notes queries
// with such results, and here they are computed again, each by a warp, in float32, from the keys that it attends to.
// Slow, and on ordinary data never needed.
#include "core/gpu/hopper/block.cuh"
#include "core/gpu/hopper/exact.h"

namespace nalab::gpu::hopper {

namespace {

constexpr int kBlockThreads = 128;
constexpr int kBlocks = 512;
constexpr int kQueriesOfWarp = 16;
constexpr int kChannels = 4;  ///< of a thread: c, c + 32, ...

__device__ float to_number(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ float to_number(__half x) { return __half2float(x); }
template <class Element>
__device__ Element to_element(float x) {
  if constexpr (std::is_same_v<Element, __half>) {
    return __float2half_rn(x);
  } else {
    return __float2bfloat16_rn(x);
  }
}

template <class Element>
__device__ Element* row_of(const DeviceTensor& tensor, int batch, const int (&x)[kAxisCount], int head) {
  int64_t place = batch * tensor.batch + head * tensor.heads;
  for (int a = 0; a < kAxisCount; ++a) place += x[a] * tensor.layout[a];
  return static_cast<Element*>(tensor.data) + place;
}

template <class Element>
__device__ void load_row(const Element* row, int dim, float (&x)[kChannels]) {
  for (int i = 0; i < kChannels; ++i) {
    const int c = threadIdx.x % 32 + 32 * i;
    x[i] = c < dim ? to_number(row[c]) : 0.0f;
  }
}

__device__ float sum_of_warp(float x) {
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
  return x;
}

/// One query of the layout.
struct Query {
  int batch, head, head_kv;
  int token[kAxisCount];  ///< coordinates
  Group group;
  KeyRange keys[kAxisCount];
};

/// Calls visit(row of the key, row of the value) for each key that a query attends to.
template <class Element, class Visit>
__device__ void for_each_key(const ExactParameters& p, const Query& query, const Visit& visit) {
  const auto on = [&](int a, int position) { return position * p.forward.dilation[a] + query.group.first[a]; };
  for (int i = query.keys[0].begin; i < query.keys[0].end; ++i) {
    for (int j = query.keys[1].begin; j < query.keys[1].end; ++j) {
      for (int l = query.keys[2].begin; l < query.keys[2].end; ++l) {
        const int x[kAxisCount] = {on(0, i), on(1, j), on(2, l)};
        visit(row_of<Element>(p.k, query.batch, x, query.head_kv), row_of<Element>(p.v, query.batch, x, query.head_kv));
      }
    }
  }
  for (int e = 0; e < p.forward.plan.extra_tokens; ++e) {
    const int x[kAxisCount] = {0, 0, e};
    visit(row_of<Element>(p.extra_k, query.batch, x, query.head_kv),
          row_of<Element>(p.extra_v, query.batch, x, query.head_kv));
  }
}

__device__ float& lse_of(const ExactParameters& p, const Query& query) {
  return *row_of<float>(p.forward.lse, query.batch, query.token, query.head);
}

/// Whether the forward kernel's results of a query are all finite, and lse no greater than it can be trusted to be:
/// then they are not to be touched.
template <class Element>
__device__ bool has_trusted_results(const ExactParameters& p, const Query& query) {
  float out[kChannels];
  load_row(row_of<Element>(p.forward.out, query.batch, query.token, query.head), p.forward.head_dim_v, out);
  float zero = 0;  // or NaN
  for (int i = 0; i < kChannels; ++i) zero = fmaf(out[i], 0, zero);
  return __all_sync(~0u, zero == 0 && fabsf(lse_of(p, query)) <= p.forward.largest_lse);
}

template <class Element>
__device__ void attend(const ExactParameters& p, const Query& query) {
  float q[kChannels], sums[kChannels] = {0, 0, 0, 0};
  load_row(row_of<Element>(p.q, query.batch, query.token, query.head), p.head_dim, q);
  const auto score = [&](const Element* key) {
    float k[kChannels], part = 0;
    load_row(key, p.head_dim, k);
    for (int i = 0; i < kChannels; ++i) part = fmaf(q[i], k[i], part);
    return __fmul_rn(sum_of_warp(part), p.scale);  // rounded, so that equal scores stay equal where they are huge
  };
  float top = -INFINITY, sum = 0;
  for_each_key<Element>(p, query, [&](const Element* key, const Element*) { top = fmaxf(top, score(key)); });
  for_each_key<Element>(p, query, [&](const Element* key, const Element* value) {
    const float weight = expf(score(key) - top);
    float v[kChannels];
    load_row(value, p.forward.head_dim_v, v);
    sum += weight;
    for (int i = 0; i < kChannels; ++i) sums[i] = fmaf(weight, v[i], sums[i]);
  });
  Element* out = row_of<Element>(p.forward.out, query.batch, query.token, query.head);
  for (int i = 0; i < kChannels; ++i) {
    const int c = threadIdx.x % 32 + 32 * i;
    if (c < p.forward.head_dim_v) out[c] = to_element<Element>(sums[i] / sum);
  }
  if (threadIdx.x % 32 == 0) lse_of(p, query) = top + logf(sum);
}

/// The n-th query of a suspect. False if it is outside of the layout.
__device__ bool find_query(const ForwardParameters& p, int64_t suspect, int n, Query& query) {
  const TileShape& shape = p.plan.shape;
  const int warp = static_cast<int>(suspect % kConsumerWarps);
  suspect /= kConsumerWarps;
  const QueryTile& tile = p.query_tiles[suspect % p.plan.query_tiles];
  suspect /= p.plan.query_tiles;
  query.head = static_cast<int>(suspect % p.heads);
  query.batch = static_cast<int>(suspect / p.heads);
  query.head_kv = query.head / p.heads_of_kv;
  query.group = p.groups[tile.group];
  const int row = warp % 4 * kQueriesOfWarp + n;
  for (int a = 0; a < kAxisCount; ++a) {
    const AxisTile& axis = p.axis_tiles[tile.axis_tile[a]];
    int x = a == 2   ? row % shape.warpgroup[2]
            : a == 1 ? row / shape.warpgroup[2] % shape.warpgroup[1]
                     : row / (shape.warpgroup[2] * shape.warpgroup[1]);
    if (a == shape.loop[2]) x += warp / 4 * shape.warpgroup[a];
    if (axis.origin + x >= query.group.length[a]) return false;
    query.token[a] = (axis.origin + x) * p.dilation[a] + query.group.first[a];
    query.keys[a] = p.key_ranges[axis.key_ranges + x];
  }
  return true;
}

template <class Element>
__global__ void __launch_bounds__(kBlockThreads, 4) exact(const __grid_constant__ ExactParameters p) {
  constexpr int kWarps = kBlockThreads / 32;
  const int64_t queries = static_cast<int64_t>(p.forward.counters->suspects) * kQueriesOfWarp;
  for (int64_t i = blockIdx.x * kWarps + threadIdx.x / 32; i < queries; i += gridDim.x * kWarps) {
    Query query;
    const bool inside = find_query(p.forward, p.forward.suspects[i / kQueriesOfWarp], i % kQueriesOfWarp, query);
    if (inside && !has_trusted_results<Element>(p, query)) attend<Element>(p, query);
  }
}

}  // namespace

cudaError_t start_exact(const ExactParameters& parameters, ElementType type, cudaStream_t stream) {
  void (*const kernel)(ExactParameters) = type == ElementType::f16 ? exact<__half> : exact<__nv_bfloat16>;
  ExactParameters copy = parameters;
  void* arguments[] = {&copy};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(kBlocks), dim3(kBlockThreads), arguments, 0,
                          stream);
}

}  // namespace nalab::gpu::hopper
