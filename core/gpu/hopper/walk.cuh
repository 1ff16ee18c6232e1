// The tiles that a computing warpgroup walks, visited ones and those that it skips.
#pragma once

#include "core/gpu/hopper/block.cuh"

namespace nalab::gpu::hopper {

/// A tile of the walk of an item. A row is the tiles of one turn of the inner loop; the extra tokens' tiles are one
/// more row. What counts tiles and rows for the rings goes on from item to item.
struct TileWalk {
  RingPlace place;      ///< of the tile, in the rings of keys and of values
  uint32_t row_number;  ///< of the row in the ring of outer biases, from 0
  int rows_left;        ///< of the layout's keys, this one included
  int t;                ///< number in the row
  int inner_tiles, extra_tiles;
  int stages;
  Span any;  ///< inner tiles to visit

  __device__ void start(const Work& work, int warpgroup) {
    rows_left = work.tiles(0) * work.tiles(1);
    t = 0;
    inner_tiles = work.tiles(2);
    extra_tiles = work.p.plan.extra_tiles;
    stages = work.shape().stages;
    any = work.axis(work.shape().loop[2]).any[warpgroup];
  }

  __device__ bool in_layout() const { return rows_left > 0; }
  __device__ bool done() const { return rows_left < 0 || (rows_left == 0 && extra_tiles == 0); }
  /// Whether the warpgroup visits the tile. One without queries visits none.
  __device__ bool visited() const { return in_layout() ? any.begin <= t && t < any.end : any.begin < any.end; }
  /// Whether no tile after this one is visited.
  __device__ bool is_last_visit() const {
    return in_layout() ? rows_left == 1 && extra_tiles == 0 && t == any.end - 1 : t == extra_tiles - 1;
  }
  /// Returns whether a row has ended.
  __device__ bool next() {
    place.advance(stages);
    if (++t < (in_layout() ? inner_tiles : extra_tiles)) return false;
    t = 0;
    --rows_left;
    return true;
  }
  __device__ int row_slot() const { return row_number % kOuterBiases; }
  __device__ uint32_t row_parity() const { return row_number / kOuterBiases % 2; }
};

}  // namespace nalab::gpu::hopper
