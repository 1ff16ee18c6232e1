// The warps that prepare the bias of a one-hot mask (MaskRow in core/gpu/plan_data.h): 16 numbers for each key of a
// tile, 0 or -1e30, that one product adds to the scores. Rows 0 to 7 (inner axis) are prepared once for all inner tiles
// that need them, rows 8 to 15 (outer axes) once for each row of tiles; a descriptor joins the two.
#pragma once

#include "core/gpu/hopper/block.cuh"

namespace nalab::gpu::hopper {

/// Two bf16: kMasked (-1e30) where a bit is set, else 0.
__device__ inline uint32_t two_biases(uint32_t bits) {
  return ((bits & 1) != 0 ? 0xF14Au : 0u) | ((bits & 2) != 0 ? 0xF14A0000u : 0u);
}

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

/// By kBiasThreads threads, `thread` of them.
template <int kDim, int kKeys>
__device__ void prepare_biases(const Work& work, const SharedLayout<kDim, kKeys>& at, Barriers& barriers,
                               MaskRanges& ranges, int thread) {
  using Layout = SharedLayout<kDim, kKeys>;
  const TileShape& shape = work.shape();
  const int loop0 = shape.loop[0], loop1 = shape.loop[1], loop2 = shape.loop[2];

  if (thread < kWarpgroups * kInnerMaskRows) {
    const int w = thread / kInnerMaskRows, row = thread % kInnerMaskRows;
    ranges.inner[w][row] = range_of_row(work, shape.rows[row], loop2, w * shape.warpgroup[loop2]);
  } else if (thread < 2 * kMaskRows) {
    const int depth = thread / 8 - 2, row = thread % 8;
    ranges.outer[depth][row] = range_of_row(work, shape.rows[kInnerMaskRows + row], depth == 0 ? loop0 : loop1, 0);
  }
  named_barrier_sync(kBiasBarrier, kBiasThreads);

  /// Calls write(key, its offset from the tile's first key on loop 0, 1, 2).
  const auto for_each_key = [&](const auto& write) {
    for (int key = thread; key < kKeys; key += kBiasThreads) {
      const int y2 = key % shape.kv[2], y1 = key / shape.kv[2] % shape.kv[1], y0 = key / (shape.kv[2] * shape.kv[1]);
      const auto on = [&](int x) { return x == 0 ? y0 : x == 1 ? y1 : y2; };
      write(key, on(loop0), on(loop1), on(loop2));
    }
  };

  const AxisTile& inner = work.axis(loop2);
  for (int w = 0; w < kWarpgroups; ++w) {
    const Span any = inner.any[w], full = inner.full[w];
    for (int key = thread; key < kKeys; key += kBiasThreads) write_bias(at.inner_bias(w, 0) + 16 * key, 0);
    for (int t = any.begin; t < any.end; ++t) {
      const int slot = inner_slot(any, full, t);
      if (slot == 0) continue;
      const int begin = inner.kv_begin + t * shape.kv[loop2];
      for_each_key([&](int key, int, int, int y) {
        write_bias(at.inner_bias(w, slot) + 16 * key, masking_bits(ranges.inner[w], begin + y));
      });
    }
  }

  RingPlace place;
  const int begin0 = work.axis(loop0).kv_begin, begin1 = work.axis(loop1).kv_begin;
  const int tiles0 = work.tiles(0), tiles1 = work.tiles(1);
  for (int t0 = 0; t0 < tiles0; ++t0) {
    for (int t1 = 0; t1 < tiles1; ++t1) {
      barrier_wait(shared_address(&barriers.row_empty[place.stage]), place.parity ^ 1);
      const int x0 = begin0 + t0 * shape.kv[loop0], x1 = begin1 + t1 * shape.kv[loop1];
      const uint32_t target = at.row_bias(place.stage);
      for_each_key([&](int key, int y0, int y1, int) {
        write_bias(target + 16 * key, masking_bits(ranges.outer[0], x0 + y0) | masking_bits(ranges.outer[1], x1 + y1));
      });
      fence_shared_writes();
      barrier_arrive(shared_address(&barriers.row_full[place.stage]));
      place.advance(kOuterBiases);
    }
  }
}

}  // namespace nalab::gpu::hopper
