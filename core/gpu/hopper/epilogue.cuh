// From sums to results: out through shared memory and TMA, lse, and which results are to be computed again.
#pragma once

#include "core/gpu/hopper/compute.cuh"

namespace nalab::gpu::hopper {

/// Writes out to the shared memory of the warpgroup's queries, as TMA's swizzle has it, and from there to its tensor;
/// writes lse; notes the warp's queries as suspects if any number is not finite, or an lse too great to be trusted.
template <class Element, int kDim, int kKeys>
__device__ void store_results(const Work& work, const SharedLayout<kDim, kKeys>& at, int warpgroup,
                              Results<Element, kDim>& results) {
  using Layout = SharedLayout<kDim, kKeys>;
  const ForwardParameters& p = work.p;
  const TileShape& shape = work.shape();
  const uint32_t target = at.queries(warpgroup);
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
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      const float low = results.out[4 * j + 2 * r] * factor, high = results.out[4 * j + 2 * r + 1] * factor;
      finite = fmaf(low, 0, fmaf(high, 0, finite));
      const uint32_t chunk = (j % 8) ^ (query % 8);
      asm volatile("st.shared.b32 [%0], %1;" ::"r"(target + j / 8 * Layout::kQueryBlockBytes + query * 128 +
                                                   chunk * 16 + lane % 4 * 4),
                   "r"(pack<Element>(low, high))
                   : "memory");
    }
    if (lane % 4 == 0) {
      const int x[kAxisCount] = {query / (shape.warpgroup[2] * shape.warpgroup[1]),
                                 query / shape.warpgroup[2] % shape.warpgroup[1], query % shape.warpgroup[2]};
      bool inside = true;
      int64_t place = work.batch * p.lse.batch + work.head * p.lse.heads;
#pragma unroll
      for (int a = 0; a < kAxisCount; ++a) {
        const int position = work.query_begin(a, warpgroup) + x[a];
        inside &= position < work.group().length[a];
        place += (static_cast<int64_t>(position) * p.dilation[a] + work.group().first[a]) * p.lse.layout[a];
      }
      if (inside) p.lse.data[place] = lse;
    }
  }
  if (__any_sync(~0u, !trusted || finite != 0) && lane == 0) {
    const int64_t block = (static_cast<int64_t>(work.batch) * p.heads + work.head) * p.plan.query_tiles + blockIdx.x;
    p.suspects[atomicAdd(p.suspect_count, 1u)] = block * kConsumerWarps + warpgroup * 4 + warpgroup_thread() / 32;
  }
  fence_shared_writes();
  named_barrier_sync(kWarpgroupBarrier + warpgroup, 128);
  if (warpgroup_thread() == 0) {
    fence_tensor_map(&work.maps().out);
    for (int block = 0; block < static_cast<int>(Layout::kBlocks); ++block) {
      store_box(&work.maps().out, target + block * Layout::kQueryBlockBytes, block * 64, work.head,
                work.query_begin(2, warpgroup), work.query_begin(1, warpgroup), work.query_begin(0, warpgroup));
    }
    wait_for_stores();
  }
}

}  // namespace nalab::gpu::hopper
