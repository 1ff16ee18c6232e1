// Which items a thread block computes. The grid has about one block for each multiprocessor. A block begins with the
// item of its own number; the warp that loads values takes each further one, the next that no block has, and tells
// all warps through a ring in shared memory. Who computes an item does not matter to its results.
#pragma once

#include "core/gpu/hopper/block.cuh"

namespace nalab::gpu::hopper {

/// Items count query tiles first, then heads, then batch entries.
__device__ inline Item item_at(const ForwardParameters& p, uint32_t index) {
  const uint32_t row = index / p.plan.query_tiles, batch = row / p.heads;
  if (batch >= p.batch) return {-1, 0, 0};
  return {static_cast<int32_t>(index % p.plan.query_tiles), static_cast<int32_t>(row % p.heads),
          static_cast<int32_t>(batch)};
}

/// The thread block's items, one after the other, for a thread that counts as a reader:
///   while (items.next()) items.item() ...
class Items {
 public:
  __device__ Items(const Barriers& barriers, Item* ring) : barriers_(barriers), ring_(ring) {}

  /// Tells all of the item that is the block's n-th, from 0. By one thread.
  __device__ void put(uint32_t n, const Item& item) {
    barrier_wait(barriers_.item_empty(n % kItems), n / kItems % 2 ^ 1);
    ring_[n % kItems] = item;
    barrier_arrive(barriers_.item_full(n % kItems));
  }

  /// Goes on to the first, or to the next. False if there is none.
  __device__ bool next() {
    if (count_ > 0) barrier_arrive(barriers_.item_empty(number() % kItems));
    ++count_;
    barrier_wait(barriers_.item_full(number() % kItems), number() / kItems % 2);
    return item().tile >= 0;
  }
  __device__ const Item& item() const { return ring_[number() % kItems]; }
  /// From 0.
  __device__ uint32_t number() const { return count_ - 1; }

 private:
  const Barriers& barriers_;
  Item* ring_;
  uint32_t count_ = 0;
};
/// The warpgroups that compute, the threads that load, and the warps that prepare outer biases.
template <MaskMode kMask>
inline constexpr int kItemReaders = kWarpgroups * 128 + 2 + (kMask == MaskMode::one_hot ? kBiasThreads : 0);

}  // namespace nalab::gpu::hopper
