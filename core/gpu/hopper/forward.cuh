// The forward kernel: fused neighborhood attention (Faster NA, 2403.04690; Generalized NA, 2504.16922) of one query
// tile for one head of one batch entry a thread block. The grid is [query tiles, heads, batch].
//
// TMA boxes of the heads-last tensors take the place of a token permutation, and of padding: outside of the layout they
// read zeros and write nothing. core/gpu/plan_data.h has the order of the tiles.
#pragma once

#include "core/gpu/hopper/bias.cuh"
#include "core/gpu/hopper/compute.cuh"
#include "core/gpu/hopper/epilogue.cuh"
#include "core/gpu/hopper/load.cuh"

namespace nalab::gpu::hopper {

template <class Element, int kDim, int kKeys, MaskMode kMask>
__global__ void __launch_bounds__(kThreads, 1) forward(const __grid_constant__ ForwardParameters parameters) {
  extern __shared__ uint8_t shared[];
  __shared__ Barriers barriers;
  __shared__ OuterMask mask;
  const Work work(parameters);
  const TileShape& shape = work.shape();
  using Layout = SharedLayout<kDim, kKeys>;
  const Layout at{(shared_address(shared) + 1023) / 1024 * 1024, shape.stages, shape.bias_slots};

  if (threadIdx.x == 0) {
    barrier_init(shared_address(&barriers.queries_full), 1);
    for (int stage = 0; stage < shape.stages; ++stage) {
      barrier_init(shared_address(&barriers.keys_full[stage]), 1);
      barrier_init(shared_address(&barriers.values_full[stage]), 1);
      barrier_init(shared_address(&barriers.keys_empty[stage]), kConsumerWarps);
      barrier_init(shared_address(&barriers.values_empty[stage]), kConsumerWarps);
    }
    for (int slot = 0; slot < kOuterBiases; ++slot) {
      barrier_init(shared_address(&barriers.row_full[slot]), kBiasThreads);
      barrier_init(shared_address(&barriers.row_empty[slot]), kConsumerWarps);
    }
    fence_barrier_init();
  }
  __syncthreads();

  if (threadIdx.x < 128) {
    give_registers<kFeederRegisters>();
    const int warp = threadIdx.x / 32;
    const bool one = threadIdx.x % 32 == 0;
    const ExtraMaps* extra = work.p.extra_maps + work.batch;
    if (warp == 0 && one) {
      load_queries(work, at, barriers);
      load_tiles<Layout>(work, &work.maps().k, &extra->k, at.keys(0), barriers.keys_full, barriers.keys_empty);
    } else if (warp == 1 && one) {
      load_tiles<Layout>(work, &work.maps().v, &extra->v, at.values(0), barriers.values_full, barriers.values_empty);
    } else if (warp >= 2 && kMask == MaskMode::one_hot) {
      prepare_outer_biases(work, at, barriers, mask, threadIdx.x - 64);
    }
  } else {
    take_registers<kConsumerRegisters>();
    const int warpgroup = threadIdx.x / 128 - 1;
    Results<Element, kDim> results;
    if (compute<Element, kDim, kKeys, kMask>(work, at, barriers, warpgroup, results)) {
      store_results<Element>(work, at, warpgroup, results);
    }
  }
}

}  // namespace nalab::gpu::hopper
