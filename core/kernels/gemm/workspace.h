// What a task of the gemm variant computes, and its memory: the weights of all queries, and what each worker needs.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "core/kernels/attention.h"
#include "core/kernels/extra_tokens.h"
#include "core/kernels/fused/tiles.h"
#include "core/kernels/gemm/halo.h"
#include "core/kernels/token_rows.h"
#include "core/kernels/weight_rows.h"
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
/// The same in IN, which reads a piece of one row after the other, in rows.
inline constexpr int64_t kPrefetchRows = 4;
/// A cache line between panels of packed values: at a multiple of 4 KiB from each other they would share a set of the
/// first-level cache.
inline constexpr int64_t kPanelGap = 16;

/// Which tokens of which heads a task of a product computes.
struct Place {
  int64_t batch;
  int64_t head;       ///< PN, NN: the first of tiles.heads query heads; IN: the kv head
  Token group;        ///< dilation group
  geometry::Box box;  ///< PN, NN: queries; IN: keys; positions in the dilation group
};

/// One worker's memory. "Keys" are those of a block that is multiplied with tiles of queries; in IN, queries that are
/// multiplied with tiles of keys.
struct Private {
  float* packed;             ///< PN: keys [block_keys][dim]; NN, IN: [panels][block_keys][kRows], kPanelGap apart
  float* tile;               ///< scores or weights of a micro tile, [block_keys padded][lanes]
  float* rows;               ///< [lanes][dim or kRunStride]: what is between lanes and memory
  float* maxima;             ///< [lanes]: a result of the score tile that is not needed here
  float* micros;             ///< [micros] of micro_floats each; PN: queries [dim][lanes]; NN, IN: sums [dim][lanes]
  int32_t* index;            ///< [block_keys padded]
  uint32_t* lanes;           ///< [block_keys padded]
  Run* block_runs;           ///< [block_keys]; as the rest of PN and NN
  Run* tile_runs;            ///< [block_keys]
  QueryTile* placed;         ///< [spatial micros]
  QueryRun* query_runs;      ///< [block_keys]; IN, as what follows
  geometry::Range* windows;  ///< [block_keys]: keys along the last axis that a query of the block attends to
  KeyTile* key_tiles;        ///< [spatial micros]
};

/// The workspace: what is stored of all queries, and private memory for each worker.
class Workspace {
 public:
  WeightRows weights;
  WeightRows gradients;  ///< backward: of the weights, then of the scores
  float* partial;        ///< backward: of the extra tokens
  ExtraSlices extra;     ///< how those are summed

  Workspace(const Problem& p, Pass pass, const Tiles& t, WorkspaceCutter& cutter, int threads)
      : extra(p), problem_(p), tiles_(t), backward_(pass == Pass::backward) {
    // An odd number of cache lines, so that the rows of neighbouring queries spread over all sets of a cache.
    const int64_t size =
        (geometry::ceil_div(p.keys_per_query() + kVectorFloats - 1, kVectorFloats) | 1) * kVectorFloats;
    const auto rows = [&](bool there) {
      return WeightRows{cutter.take<float>(there ? p.batch * p.tokens() * p.heads * size : 0), q_shape(p).layout,
                        p.heads, size};
    };
    weights = rows(true);
    gradients = rows(backward_);
    partial = cutter.take<float>(backward_ ? extra.floats(dim()) : 0);
    WorkspaceCutter one(nullptr);
    cut_private(one);
    private_bytes_ = one.size();
    first_ = cutter.take<std::byte>(private_bytes_ * threads);
  }

  Private of(int worker) const {
    WorkspaceCutter cutter(first_ + worker * private_bytes_);
    return cut_private(cutter);
  }
  int64_t micro_floats() const { return tiles_.lanes * (dim() + kMaxRows); }

 private:
  int64_t dim() const { return std::max(problem_.head_dim, problem_.head_dim_v); }
  Private cut_private(WorkspaceCutter& cutter) const {
    const int64_t padded_keys = tiles_.block_keys + kMaxRows;
    Private p;
    p.packed = cutter.take<float>((tiles_.block_keys + kPanelGap) * (dim() + kMaxRows));
    p.tile = cutter.take<float>(padded_keys * tiles_.lanes);
    p.rows = cutter.take<float>(tiles_.lanes * std::max(dim(), kRunStride));
    p.maxima = cutter.take<float>(tiles_.lanes);
    p.micros = cutter.take<float>(tiles_.micros() * micro_floats());
    p.index = cutter.take<int32_t>(padded_keys);
    p.lanes = cutter.take<uint32_t>(padded_keys);
    p.block_runs = cutter.take<Run>(tiles_.block_keys);
    p.tile_runs = cutter.take<Run>(tiles_.block_keys);
    p.placed = cutter.take<QueryTile>(tiles_.spatial_micros());
    p.query_runs = cutter.take<QueryRun>(backward_ ? tiles_.block_keys : 0);
    p.windows = cutter.take<geometry::Range>(backward_ ? tiles_.block_keys : 0);
    p.key_tiles = cutter.take<KeyTile>(backward_ ? tiles_.spatial_micros() : 0);
    return p;
  }

  const Problem& problem_;
  const Tiles& tiles_;
  bool backward_;
  std::byte* first_;
  int64_t private_bytes_;
};

}  // namespace nalab::gemm
