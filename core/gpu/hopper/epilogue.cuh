// From sums to results: out, lse, and which results are to be computed again.
#pragma once

#include "core/gpu/hopper/compute.cuh"

namespace nalab::gpu::hopper {

/// Transposes 4 x 4 words among four threads: x[i] of thread j becomes x[j] of thread i.
__device__ inline void transpose(uint32_t (&x)[4]) {
#pragma unroll
  for (int bit = 1; bit < 4; bit *= 2) {
    const bool upper = threadIdx.x & bit;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & bit) continue;
      const uint32_t other = __shfl_xor_sync(~0u, upper ? x[i] : x[i + bit], bit);
      (upper ? x[i] : x[i + bit]) = other;
    }
  }
}

/// Writes the results of a warpgroup's queries, with no need for shared memory; notes the warp's queries as suspects if
/// any number is not finite, or an lse too great to be trusted.
template <class Element, int kDim>
__device__ void store_results(const Work& work, int warpgroup, Results<Element, kDim>& results) {
  const ForwardParameters& p = work.p;
  const TileShape& shape = work.shape();
  const int lane = threadIdx.x % 32;
  float finite = 0;  // 0, or NaN
  bool trusted = true;

  const float ln2 = 0.6931471805599453f;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float sum = sum_of_row(results.softmax.sum[2 * r] + results.softmax.sum[2 * r + 1]);
    const float lse = (results.softmax.reference[r] + log2f(sum)) * ln2;
    const float factor = 1 / sum;
    trusted &= fabsf(lse) <= p.largest_lse;  // not if it is NaN

    const int query = first_row() + 8 * r;
    const int x[kAxisCount] = {query / (shape.warpgroup[2] * shape.warpgroup[1]),
                               query / shape.warpgroup[2] % shape.warpgroup[1], query % shape.warpgroup[2]};
    bool inside = true;
    int64_t out_place = work.item.batch * p.out.batch + work.item.head * p.out.heads;
    int64_t lse_place = work.item.batch * p.lse.batch + work.item.head * p.lse.heads;
#pragma unroll
    for (int a = 0; a < kAxisCount; ++a) {
      const int position = work.query_begin(a, warpgroup) + x[a];
      inside &= position < work.group().length[a];
      const int64_t token = static_cast<int64_t>(position) * p.dilation[a] + work.group().first[a];
      out_place += token * p.out.layout[a];
      lse_place += token * p.lse.layout[a];
    }
    if (inside && lane % 4 == 0) static_cast<float*>(p.lse.data)[lse_place] = lse;

#pragma unroll
    for (int j = 0; j < kDim / 8; j += 4) {  // blocks of 8 channels, of which each thread has two
      uint32_t block[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float low = results.out[4 * (j + i) + 2 * r] * factor;
        const float high = results.out[4 * (j + i) + 2 * r + 1] * factor;
        finite = fmaf(low, 0, fmaf(high, 0, finite));
        block[i] = pack<Element>(low, high);
      }
      transpose(block);
      const int channel = 8 * (j + lane % 4);
      if (inside && channel < p.head_dim_v) {
        store_global(static_cast<Element*>(p.out.data) + out_place + channel, block);
      }
    }
  }
  if (__any_sync(~0u, !trusted || finite != 0) && lane == 0) {
    const int64_t block =
        (static_cast<int64_t>(work.item.batch) * p.heads + work.item.head) * p.plan.query_tiles + work.item.tile;
    p.suspects[atomicAdd(&p.counters->suspects, 1u)] = block * kConsumerWarps + warpgroup * 4 + warpgroup_thread() / 32;
  }
}

}  // namespace nalab::gpu::hopper
