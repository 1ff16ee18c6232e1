// The warps that load: each walks the tiles in the plan's order (core/gpu/plan_data.h) and keeps its ring full.
#pragma once

#include "core/gpu/hopper/block.cuh"

namespace nalab::gpu::hopper {

/// The box of the walk at which a loading warp is. Positions are those of its first key.
struct BoxWalk {
  int begin[kAxisCount];  ///< in the order of the loops
  int tiles[kAxisCount];
  int step[kAxisCount];
  int t[kAxisCount] = {0, 0, 0};
  int loop0, loop1;

  __device__ explicit BoxWalk(const Work& work) : loop0(work.shape().loop[0]), loop1(work.shape().loop[1]) {
#pragma unroll
    for (int depth = 0; depth < kAxisCount; ++depth) {
      const int x = work.shape().loop[depth];
      begin[depth] = work.axis(x).kv_begin;
      tiles[depth] = work.axis(x).kv_tiles;
      step[depth] = work.shape().kv[x];
    }
  }

  __device__ bool done() const { return t[0] == tiles[0]; }
  __device__ void next() {
    if (++t[2] < tiles[2]) return;
    t[2] = 0;
    if (++t[1] < tiles[1]) return;
    t[1] = 0;
    ++t[0];
  }
  /// On an axis of the layout.
  __device__ int position(int x) const {
    const int p0 = begin[0] + t[0] * step[0], p1 = begin[1] + t[1] * step[1], p2 = begin[2] + t[2] * step[2];
    return x == loop0 ? p0 : x == loop1 ? p1 : p2;
  }
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

template <int kDim, int kKeys>
__device__ void load_queries(const Work& work, const SharedLayout<kDim, kKeys>& at, Barriers& barriers) {
  using Layout = SharedLayout<kDim, kKeys>;
  const uint32_t full = shared_address(&barriers.queries_full);
  fence_tensor_map(&work.maps().q);
  barrier_arrive_expecting(full, kWarpgroups * Layout::kQueryBytes);
  for (int w = 0; w < kWarpgroups; ++w) {
    load_blocks<Layout::kBlocks>(&work.maps().q, at.queries(w), Layout::kQueryBlockBytes, full, work.head,
                                 work.query_begin(0, w), work.query_begin(1, w), work.query_begin(2, w));
  }
}

/// Loads all KV tiles of keys or of values: `map` for the layout, `extra_map` for the extra tokens (null if none).
/// By one thread. `first`: the first stage of the ring; `full`, `empty`: the barriers of its stages.
template <class Layout>
__device__ void load_tiles(const Work& work, const CUtensorMap* map, const CUtensorMap* extra_map, uint32_t first,
                           uint64_t* full_barriers, uint64_t* empty_barriers) {
  const int stages = work.shape().stages;
  const int head = work.head_kv();
  const uint32_t all_full = shared_address(full_barriers), all_empty = shared_address(empty_barriers);
  RingPlace place;
  const auto load = [&](const CUtensorMap* from, int x0, int x1, int x2) {
    const uint32_t full = all_full + 8 * place.stage;
    barrier_wait(all_empty + 8 * place.stage, place.parity ^ 1);  // at the start all stages count as emptied
    barrier_arrive_expecting(full, Layout::kStageBytes);
    load_blocks<Layout::kBlocks>(from, first + place.stage * Layout::kStageBytes, Layout::kKeyBlockBytes, full, head,
                                 x0, x1, x2);
    place.advance(stages);
  };
  fence_tensor_map(map);
  for (BoxWalk walk(work); !walk.done(); walk.next()) load(map, walk.position(0), walk.position(1), walk.position(2));
  if (work.p.plan.extra_tiles > 0) fence_tensor_map(extra_map);
  for (int t = 0; t < work.p.plan.extra_tiles; ++t) load(extra_map, 0, 0, t * Layout::kTileKeys);
}

}  // namespace nalab::gpu::hopper
