// The tiles that a computing warpgroup walks, visited ones and those that it skips.
#pragma once

#include "core/gpu/hopper/block.cuh"

namespace nalab::gpu::hopper {

/// A tile of the walk. A row is the tiles of one turn of the inner loop; the extra tokens' tiles are one more row.
struct TileWalk {
  RingPlace place;      ///< of the tile, in the rings of keys and of values
  RingPlace row_place;  ///< of the row, in the ring of outer biases
  int row = 0, t = 0;
  int rows;  ///< of the layout's keys
  int inner_tiles, extra_tiles;
  int stages;
  Span any;  ///< inner tiles to visit

  __device__ TileWalk(const Work& work, int warpgroup)
      : rows(work.tiles(0) * work.tiles(1)),
        inner_tiles(work.tiles(2)),
        extra_tiles(work.p.plan.extra_tiles),
        stages(work.shape().stages),
        any(work.axis(work.shape().loop[2]).any[warpgroup]) {}

  __device__ bool in_layout() const { return row < rows; }
  __device__ bool done() const { return row > rows || (row == rows && extra_tiles == 0); }
  /// Whether the warpgroup visits the tile. One without queries visits none.
  __device__ bool visited() const { return in_layout() ? any.begin <= t && t < any.end : any.begin < any.end; }
  /// Returns whether a row has ended.
  __device__ bool next() {
    place.advance(stages);
    if (++t < (in_layout() ? inner_tiles : extra_tiles)) return false;
    t = 0;
    ++row;
    return true;
  }
};

}  // namespace nalab::gpu::hopper
