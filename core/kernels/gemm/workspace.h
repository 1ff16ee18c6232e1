// What a task of the gemm variant computes, and its memory: the weights of all queries, and what each worker needs.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "core/kernels/fused/tiles.h"
#include "core/kernels/gemm/halo.h"
#include "core/kernels/token_rows.h"
#include "core/problem.h"

namespace nalab::gemm {

using fused::Tiles;

/// Floats of the widest vector: rows that are copied by whole vectors are followed by as much.
inline constexpr int64_t kVectorFloats = kAlignment / sizeof(float);
/// Register tiles have at most this many rows: lists and panels are padded by it.
inline constexpr int64_t kMaxRows = 16;
/// Keys that are transposed at a time between lanes and rows; all rows of a tile then stay in a first-level cache.
inline constexpr int64_t kRunKeys = 64;
inline constexpr int64_t kRunStride = kRunKeys + kVectorFloats;
/// How far ahead rows of weights are fetched, in floats. They are too many to be foreseen by the processor: without it
/// gemm takes 1.2 times as long on a 31x31 window.
inline constexpr int64_t kPrefetch = 128;
/// A cache line between panels of packed values: at a multiple of 4 KiB from each other they would share a set of the
/// first-level cache.
inline constexpr int64_t kPanelGap = 16;

/// Which queries of which heads a task of a product computes.
struct Place {
  int64_t batch;
  int64_t head;           ///< the first of tiles.heads query heads
  Token group;            ///< dilation group
  geometry::Box queries;  ///< positions in the dilation group
};

/// One worker's memory.
struct Private {
  float* packed;      ///< PN: keys [block_keys][head_dim]; NN: values [panels][block_keys][kRows], kPanelGap apart
  float* tile;        ///< scores or weights of a micro tile, [block_keys padded][lanes]
  float* rows;        ///< [lanes][head_dim, head_dim_v or kRunStride]: what is between lanes and memory
  float* maxima;      ///< [lanes]: a result of the score tile that is not needed here
  float* micros;      ///< [micros] of micro_floats each; PN: queries [head_dim][lanes]; NN: out [head_dim_v][lanes]
  int32_t* index;     ///< [block_keys padded]
  uint32_t* lanes;    ///< [block_keys padded]
  Run* block_runs;    ///< [block_keys]
  Run* tile_runs;     ///< [block_keys]
  QueryTile* placed;  ///< [spatial micros]
};

/// The workspace: the weights of all queries, and private memory for each worker.
class Workspace {
 public:
  Workspace(const Problem& p, const Tiles& t, WorkspaceCutter& cutter, int threads) : problem_(p), tiles_(t) {
    const auto axes = p.axes3();
    for (int axis = 0; axis < geometry::kAxes; ++axis) layout_[axis] = axes[axis].extent;
    // An odd number of cache lines, so that the rows of neighbouring queries spread over all sets of a cache.
    row_ = (geometry::ceil_div(p.keys_per_query() + kVectorFloats - 1, kVectorFloats) | 1) * kVectorFloats;
    weights_ = cutter.take<float>(p.batch * p.tokens() * p.heads * row_);
    WorkspaceCutter one(nullptr);
    cut_private(one);
    private_bytes_ = one.size();
    first_ = cutter.take<std::byte>(private_bytes_ * threads);
  }

  /// The row of weights of a query: keys_per_query, and room for at least a vector less one element.
  float* weights(int64_t b, const Token& token, int64_t head) const {
    const int64_t place = ((b * layout_[0] + token[0]) * layout_[1] + token[1]) * layout_[2] + token[2];
    return weights_ + (place * problem_.heads + head) * row_;
  }
  Private of(int worker) const {
    WorkspaceCutter cutter(first_ + worker * private_bytes_);
    return cut_private(cutter);
  }
  int64_t micro_floats() const { return tiles_.lanes * std::max(problem_.head_dim, problem_.head_dim_v + kMaxRows); }

 private:
  Private cut_private(WorkspaceCutter& cutter) const {
    const int64_t padded_keys = tiles_.block_keys + kMaxRows;
    Private p;
    p.packed = cutter.take<float>(std::max(tiles_.block_keys * problem_.head_dim,
                                           (tiles_.block_keys + kPanelGap) * (problem_.head_dim_v + kMaxRows)));
    p.tile = cutter.take<float>(padded_keys * tiles_.lanes);
    p.rows = cutter.take<float>(tiles_.lanes * std::max({problem_.head_dim, problem_.head_dim_v, kRunStride}));
    p.maxima = cutter.take<float>(tiles_.lanes);
    p.micros = cutter.take<float>(tiles_.micros() * micro_floats());
    p.index = cutter.take<int32_t>(padded_keys);
    p.lanes = cutter.take<uint32_t>(padded_keys);
    p.block_runs = cutter.take<Run>(tiles_.block_keys);
    p.tile_runs = cutter.take<Run>(tiles_.block_keys);
    p.placed = cutter.take<QueryTile>(tiles_.spatial_micros());
    return p;
  }

  const Problem& problem_;
  const Tiles& tiles_;
  std::array<int64_t, 3> layout_;
  float* weights_;
  int64_t row_;
  std::byte* first_;
  int64_t private_bytes_;
};

}  // namespace nalab::gemm
