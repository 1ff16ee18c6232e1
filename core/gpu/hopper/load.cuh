// The warps that load: each walks the tiles in the plan's order (core/gpu/plan_data.h) and keeps its ring full.
#pragma once

#include "core/gpu/hopper/items.cuh"

namespace nalab::gpu::hopper {

/// The box of the walk at which a loading warp is. There are few registers, so what is seldom needed is read again.
struct BoxWalk {
  const Work& work;
  int at[kAxisCount];  ///< positions of its first key, in the order of the loops
  int end[kAxisCount];

  __device__ explicit BoxWalk(const Work& of) : work(of) {
#pragma unroll
    for (int depth = 0; depth < kAxisCount; ++depth) {
      at[depth] = begin(depth);
      end[depth] = at[depth] + work.tiles(depth) * step(depth);
    }
  }

  __device__ bool done() const { return at[0] == end[0]; }
  __device__ void next() {
    if ((at[2] += step(2)) < end[2]) return;
    at[2] = begin(2);
    if ((at[1] += step(1)) < end[1]) return;
    at[1] = begin(1);
    at[0] += step(0);
  }
  /// On an axis of the layout.
  __device__ int position(int x) const {
    return x == work.shape().loop[0] ? at[0] : x == work.shape().loop[1] ? at[1] : at[2];
  }

 private:
  __device__ int begin(int depth) const { return work.axis(work.shape().loop[depth]).kv_begin; }
  __device__ int step(int depth) const { return work.shape().kv[work.shape().loop[depth]]; }
};

/// Loads a box into `target`, one block of 64 channels after the other.
template <int kBlocks>
__device__ void load_blocks(const CUtensorMap* map, uint32_t target, uint32_t block_bytes, uint32_t barrier, int head,
                            int x0, int x1, int x2) {
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    load_box(target + block * block_bytes, map, barrier, block * 64, head, x2, x1, x0);
  }
}

/// Turns to the tensor maps of an item. Returns whether they are others than before: then they are to be fenced.
__device__ inline bool changes(const GroupMaps*& maps, const Work& work) {
  const GroupMaps* before = maps;
  maps = &work.maps();
  return maps != before;
}

/// Loads the queries of an item, each warpgroup's when it no longer needs those of the item before. `number`: of the
/// item, from 0.
template <int kDim, int kKeys>
__device__ void load_queries(const Work& work, const CUtensorMap* map, const SharedLayout<kDim, kKeys>& at,
                             const Barriers& barriers, uint32_t number) {
  using Layout = SharedLayout<kDim, kKeys>;
#pragma unroll 1  // there are few registers
  for (int w = 0; w < kWarpgroups; ++w) {
    const uint32_t full = barriers.queries_full(w);
    barrier_wait(barriers.queries_empty(w), number % 2 ^ 1);
    barrier_arrive_expecting(full, Layout::kQueryBytes);
    load_blocks<Layout::kBlocks>(map, at.queries(w), Layout::kQueryBlockBytes, full, work.item.head,
                                 work.query_begin(0, w), work.query_begin(1, w), work.query_begin(2, w));
  }
}

/// Keeps a ring of keys or of values full. By one thread.
template <class Layout>
struct RingLoader {
  uint32_t first;        ///< stage
  uint32_t full, empty;  ///< barriers of the first stage
  int stages;
  RingPlace place;

  __device__ void load(const CUtensorMap* map, int head, int x0, int x1, int x2) {
    const uint32_t filled = full + 8 * place.stage;
    barrier_wait(empty + 8 * place.stage, place.parity ^ 1);  // at the start all stages count as emptied
    barrier_arrive_expecting(filled, Layout::kStageBytes);
    load_blocks<Layout::kBlocks>(map, first + place.stage * Layout::kStageBytes, Layout::kKeyBlockBytes, filled, head,
                                 x0, x1, x2);
    place.advance(stages);
  }
  /// All tiles of an item. `extra_map`: of the extra tokens, used if there are some.
  __device__ void load(const Work& work, const CUtensorMap* map, const CUtensorMap* extra_map) {
    const int head = work.head_kv();
    for (BoxWalk walk(work); !walk.done(); walk.next()) {
      load(map, head, walk.position(0), walk.position(1), walk.position(2));
    }
    if (work.p.plan.extra_tiles == 0) return;
    fence_tensor_map(extra_map);
#pragma unroll 1
    for (int t = 0; t < work.p.plan.extra_tiles; ++t) load(extra_map, head, 0, 0, t * Layout::kTileKeys);
  }
};

/// Loads keys. By one thread.
template <int kDim, int kKeys>
__device__ void load_keys(const ForwardParameters& p, const SharedLayout<kDim, kKeys>& at, const Barriers& barriers,
                          Items items) {
  RingLoader<SharedLayout<kDim, kKeys>> ring{at.keys(0), barriers.keys_full(), barriers.keys_empty(), at.stages};
  const GroupMaps* maps = nullptr;
  while (items.next()) {
    const Work work{p, items.item()};
    if (changes(maps, work)) fence_tensor_map(&maps->k);
    ring.load(work, &maps->k, &p.extra_maps[work.item.batch].k);
  }
}

/// Loads queries and values, and takes items. By one thread. Queries can be loaded as soon as the last scores of the
/// item before are there; the product with the last but one of its values, whose place the first values of this item
/// take, ends at the same time.
template <int kDim, int kKeys>
__device__ void load_queries_and_values(const ForwardParameters& p, const SharedLayout<kDim, kKeys>& at,
                                        const Barriers& barriers, Items items) {
  RingLoader<SharedLayout<kDim, kKeys>> ring{at.values(0), barriers.values_full(), barriers.values_empty(), at.stages};
  const GroupMaps* maps = nullptr;
  items.put(0, item_at(p, blockIdx.x));
  while (items.next()) {
    const Work work{p, items.item()};
    if (changes(maps, work)) {
      fence_tensor_map(&maps->q);
      fence_tensor_map(&maps->v);
    }
    load_queries(work, &maps->q, at, barriers, items.number());
    items.put(items.number() + 1, item_at(p, gridDim.x + atomicAdd(&p.counters->taken, 1u)));
    ring.load(work, &maps->v, &p.extra_maps[work.item.batch].v);
  }
}

}  // namespace nalab::gpu::hopper
