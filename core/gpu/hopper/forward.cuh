// The forward kernel: fused neighborhood attention (Faster NA, 2403.04690; Generalized NA, 2504.16922). A thread block
// computes one item after the other, each a query tile of one head of one batch entry; the rings of keys, values and
// biases run on from item to item, so that the next one is loaded while this one ends.
//
// TMA boxes of the heads-last tensors take the place of a token permutation, and of padding: outside of the layout they
// read zeros. core/gpu/plan_data.h has the order of the tiles.
#pragma once

#include "core/gpu/hopper/bias.cuh"
#include "core/gpu/hopper/compute.cuh"
#include "core/gpu/hopper/epilogue.cuh"
#include "core/gpu/hopper/load.cuh"

namespace nalab::gpu::hopper {

template <class Element, int kDim, int kKeys, MaskMode kMask>
__global__ void __launch_bounds__(kThreads, 1) forward(const __grid_constant__ ForwardParameters parameters) {
  extern __shared__ uint8_t shared[];
  __shared__ Control control;
  __shared__ OuterMask mask;
  const TileShape& shape = parameters.plan.shape;
  using Layout = SharedLayout<kDim, kKeys>;
  constexpr uint32_t kAligned = Layout::kAlignment;
  const Layout at{(shared_address(shared) + kAligned - 1) / kAligned * kAligned, shape.stages, shape.bias_slots};
  const Barriers barriers{shared_address(&control)};

  if (threadIdx.x == 0) {
    for (int w = 0; w < kWarpgroups; ++w) {
      barrier_init(barriers.queries_full(w), 1);
      barrier_init(barriers.queries_empty(w), kConsumerWarps / kWarpgroups);
    }
    for (int stage = 0; stage < shape.stages; ++stage) {
      barrier_init(barriers.keys_full(stage), 1);
      barrier_init(barriers.values_full(stage), 1);
      barrier_init(barriers.keys_empty(stage), kConsumerWarps);
      barrier_init(barriers.values_empty(stage), kConsumerWarps);
    }
    for (int slot = 0; slot < kOuterBiases; ++slot) {
      barrier_init(barriers.row_full(slot), kBiasThreads);
      barrier_init(barriers.row_empty(slot), kConsumerWarps);
    }
    for (int slot = 0; slot < kItems; ++slot) {
      barrier_init(barriers.item_full(slot), 1);
      barrier_init(barriers.item_empty(slot), kItemReaders<kMask>);
    }
    fence_barrier_init();
  }
  __syncthreads();

  if (threadIdx.x < 128) {
    give_registers<kFeederRegisters>();
    const int warp = threadIdx.x / 32;
    const bool one = threadIdx.x % 32 == 0;
    const Items items(barriers, control.items);
    if (warp == 0 && one) {
      load_keys(parameters, at, barriers, items);
    } else if (warp == 1 && one) {
      load_queries_and_values(parameters, at, barriers, items);
    } else if (warp >= 2 && kMask == MaskMode::one_hot) {
      prepare_outer_biases(parameters, at, barriers, items, mask, threadIdx.x - 64);
    }
  } else {
    take_registers<kConsumerRegisters>();
    const int warpgroup = of_warp(threadIdx.x / 128 - 1);
    const bool take_turns = shape.ping_pong != 0;
    const Barriers kept{static_cast<uint32_t>(of_warp(barriers.base))};  // or it would be worked out again and again
    Progress progress;
    if constexpr (kMask == MaskMode::one_hot) one_hot(shape, progress.hot);
    if (take_turns && warpgroup == 1) named_barrier_arrive(kTurnBarrier, 256);
    for (Items items(kept, control.items); items.next();) {
      const Item item{of_warp(items.item().tile), of_warp(items.item().head), of_warp(items.item().batch)};
      __syncwarp();  // so that the compiler knows: the warp goes through the item as one
      const Work work{parameters, item};
      Results<Element, kDim> results;
      if (compute<Element, kDim, kKeys, kMask>(work, items.number(), at, kept, warpgroup, progress, results)) {
        store_results<Element>(work, warpgroup, results);
      }
    }
    if (take_turns && warpgroup == 0) named_barrier_sync(kTurnBarrier, 256);  // the other's last one
  }
}

}  // namespace nalab::gpu::hopper
