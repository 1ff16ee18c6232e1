// The bias of a one-hot mask (MaskRow in core/gpu/plan_data.h): 16 numbers for each key of a tile, 0 or -1e30, that one
// product adds to the scores. Rows 0 to 7 (inner axis) are prepared once for all inner tiles that need them, by the
// warpgroup that uses them; rows 8 to 15 (outer axes) once for each row of tiles, by two warps of the feeders; a
// descriptor joins the two.
#pragma once

#include "core/gpu/hopper/items.cuh"

namespace nalab::gpu::hopper {

/// Two bf16: kMasked (-1e30) where a bit is set, else 0.
__device__ inline uint32_t two_biases(uint32_t bits) { return ((bits & 1) | (bits & 2) << 15) * 0xF14A; }

/// Writes 8 rows of the bias of one key; a set bit masks.
__device__ inline void write_bias(uint32_t address, uint32_t bits) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(two_biases(bits)),
               "r"(two_biases(bits >> 2)), "r"(two_biases(bits >> 4)), "r"(two_biases(bits >> 6))
               : "memory");
}

/// Bit i is set if range i does not hold the position.
__device__ inline uint32_t masking_bits(const KeyRange (&ranges)[8], int position) {
  uint32_t bits = 0;
#pragma unroll 4  // more would spill registers
  for (int i = 0; i < 8; ++i) {
    const KeyRange range = ranges[i];
    bits |= (range.begin <= position && position < range.end ? 0u : 1u) << i;
  }
  return bits;
}

/// The keys that a row lets through on an axis: those of the query it names there, or all.
__device__ inline KeyRange range_of_row(const Work& work, const MaskRow& row, int x, int first_query) {
  if (row.coordinate[x] < 0) return {INT32_MIN, INT32_MAX};
  return work.p.key_ranges[work.axis(x).key_ranges + first_query + row.coordinate[x]];
}

/// A key's offset from the tile's first key on an axis.
__device__ inline int key_offset(const TileShape& shape, int key, int x) {
  if (x == 2) return key % shape.kv[2];
  key /= shape.kv[2];
  return x == 1 ? key % shape.kv[1] : key / shape.kv[1];
}

/// The inner biases of a warpgroup for an item, by its threads, whose products no longer need those of the item before.
template <int kDim, int kKeys>
__device__ void prepare_inner_biases(const Work& work, const SharedLayout<kDim, kKeys>& at, int warpgroup) {
  const TileShape& shape = work.shape();
  const int inner = shape.loop[2];
  const AxisTile& axis = work.axis(inner);
  const Span any = axis.any[warpgroup], full = axis.full[warpgroup];
  KeyRange ranges[kInnerMaskRows];
#pragma unroll
  for (int row = 0; row < kInnerMaskRows; ++row) {
    ranges[row] = range_of_row(work, shape.rows[row], inner, warpgroup * shape.warpgroup[inner]);
  }
  named_barrier_sync(kWarpgroupBarrier + warpgroup, 128);  // the other warps' products do not either
  for (int key = threadIdx.x % 128; key < kKeys; key += 128) {
    const int first = axis.kv_begin + key_offset(shape, key, inner);
    write_bias(at.inner_bias(warpgroup, 0) + 16 * key, 0);
    for (int t = any.begin; t < any.end; ++t) {
      const int slot = inner_slot(any, full, t);
      if (slot == 0) continue;
      write_bias(at.inner_bias(warpgroup, slot) + 16 * key, masking_bits(ranges, first + t * shape.kv[inner]));
    }
  }
  fence_shared_writes();
  named_barrier_sync(kWarpgroupBarrier + warpgroup, 128);
}

/// The outer biases, row of tiles by row, by kBiasThreads threads, `thread` of them. What masks a key is the sum of
/// what masks its coordinates on the two outer axes; that is found once for each coordinate of a row.
template <int kDim, int kKeys>
__device__ void prepare_outer_biases(const ForwardParameters& p, const SharedLayout<kDim, kKeys>& at,
                                     const Barriers& barriers, Items items, OuterMask& mask, int thread) {
  const TileShape& shape = p.plan.shape;
  const int loop0 = shape.loop[0], loop1 = shape.loop[1];
  const int extent0 = shape.kv[loop0], coordinates = extent0 + shape.kv[loop1];
  constexpr int kOuterRows = kMaskRows - kInnerMaskRows;

  // Of the thread's keys: where the bits of their two coordinates stand, packed since registers are few.
  constexpr int kKeysOfThread = (kKeys + kBiasThreads - 1) / kBiasThreads;
  uint32_t places[kKeysOfThread];
#pragma unroll
  for (int i = 0; i < kKeysOfThread; ++i) {
    const int key = thread + i * kBiasThreads;
    places[i] = key_offset(shape, key, loop0) | (extent0 + key_offset(shape, key, loop1)) << 16;
  }

  RingPlace place;
  while (items.next()) {
    const Work work{p, items.item()};
    // All threads have read the ranges of the item before: that was before the barrier of its last row.
    if (thread < 2 * kOuterRows) {
      const int depth = thread / kOuterRows, row = thread % kOuterRows;
      mask.ranges[depth][row] = range_of_row(work, shape.rows[kInnerMaskRows + row], depth == 0 ? loop0 : loop1, 0);
    }
    named_barrier_sync(kBiasBarrier, kBiasThreads);
    const int end0 = work.axis(loop0).kv_begin + work.tiles(0) * extent0;
    for (int x0 = work.axis(loop0).kv_begin; x0 < end0; x0 += extent0) {
      const int end1 = work.axis(loop1).kv_begin + work.tiles(1) * shape.kv[loop1];
      for (int x1 = work.axis(loop1).kv_begin; x1 < end1; x1 += shape.kv[loop1]) {
        // Two sets in turn: when a set is written again, all threads have passed the barrier after they read it.
        uint8_t(&bits)[kMostCoordinates] = mask.bits[place.stage];
        for (int c = thread; c < coordinates; c += kBiasThreads) {
          bits[c] = static_cast<uint8_t>(c < extent0 ? masking_bits(mask.ranges[0], x0 + c)
                                                     : masking_bits(mask.ranges[1], x1 + c - extent0));
        }
        named_barrier_sync(kBiasBarrier, kBiasThreads);
        barrier_wait(barriers.row_empty(place.stage), place.parity ^ 1);
        const uint32_t target = at.row_bias(place.stage);
#pragma unroll
        for (int i = 0; i < kKeysOfThread; ++i) {
          const int key = thread + i * kBiasThreads;
          if (key < kKeys) write_bias(target + 16 * key, bits[places[i] & 0xFFFF] | bits[places[i] >> 16]);
        }
        fence_shared_writes();
        barrier_arrive(barriers.row_full(place.stage));
        place.advance(kOuterBiases);
      }
    }
  }
}

}  // namespace nalab::gpu::hopper
