// What a task of the gemm variant computes, and its memory: the weights of all queries, and what each worker needs.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/kernels/gemm/halo.h"
#include "core/kernels/unfused/stored_weights.h"
#include "core/problem.h"
#include "core/tensor/workspace.h"
#include "core/tiling.h"

namespace nalab::gemm {

using unfused::BiasTables;
using unfused::ConstWeightRows;
using unfused::StoredWeights;
using unfused::WeightRows;

/// Floats of the widest vector: rows that are copied by whole vectors are followed by as many.
inline constexpr int64_t kVectorFloats = kAlignment / sizeof(float);
/// Lists of rows are padded to a multiple of at most this many.
inline constexpr int64_t kMaxRows = 32;
/// Keys that are transposed at a time between lanes and rows; all rows of a tile then stay in a first-level cache.
inline constexpr int64_t kRunKeys = 64;
inline constexpr int64_t kRunStride = kRunKeys + kVectorFloats;
/// How far ahead rows of weights are fetched, in floats. There are too many for the processor to foresee: without this
/// gemm takes 1.2 times as long on a 31x31 window.
inline constexpr int64_t kPrefetch = 128;
/// The same in IN, which reads a piece of one row after the other, in rows.
inline constexpr int64_t kPrefetchRows = 4;
/// Sizes of what a worker keeps for products, in floats.
struct ProductFloats {
  int64_t block = 0;    ///< rows of a block, or panels of their columns
  int64_t packing = 0;  ///< while they are packed
  int64_t tile = 0;     ///< scores or weights of a tile
  int64_t product = 0;  ///< what a product needs besides
  int64_t operand = 0;  ///< queries of a tile, or its sums
  int64_t misfits = 0;  ///< see Misfits

  /// Enough for either.
  ProductFloats with(const ProductFloats& other) const {
    return {std::max(block, other.block),     std::max(packing, other.packing), std::max(tile, other.tile),
            std::max(product, other.product), std::max(operand, other.operand), std::max(misfits, other.misfits)};
  }
};

/// Results of a super tile that operators leave out, since they cannot take the numbers that these are made of: for
/// each of its tiles the lanes whose results are all left out, and behind these, for each column, those whose column
/// is. Operators that take all numbers compute what others have left out.
struct Misfits {
  uint32_t* lanes;  ///< [tiles][1 + columns]
  int64_t columns;
  std::vector<tile::Segment> keys{};  ///< PN: keys whose scores are left out, one by one

  uint32_t& of(int64_t tile) const { return lanes[tile * (1 + columns)]; }
  uint32_t& of(int64_t tile, int64_t column) const { return lanes[tile * (1 + columns) + 1 + column]; }
  void clear(int64_t tiles) const { std::fill_n(lanes, tiles * (1 + columns), 0u); }
  bool any(int64_t tiles) const {
    return !keys.empty() || std::any_of(lanes, lanes + tiles * (1 + columns), [](uint32_t bits) { return bits != 0; });
  }
};

/// One worker's memory. "Keys" are those of a block that is multiplied with tiles of queries; in IN, queries that are
/// multiplied with tiles of keys.
struct Private {
  float* packed;   ///< PN: keys as rows; NN, IN: panels
  float* packing;  ///< while they are packed
  float* tile;     ///< scores or weights of a query tile, [block_keys padded][lanes]
  float* product;  ///< what a product needs besides
  float* rows;     ///< [lanes][dim or kRunStride]: what is between lanes and memory
  float* tiles;    ///< [query tiles] of operand_floats each; PN: packed queries; NN, IN: sums [dim padded][lanes]
  int64_t operand_floats;
  uint32_t* misfits;
  int32_t* index;                 ///< [block_keys padded]
  uint32_t* lanes;                ///< [block_keys padded]
  tile::Segment* block_segments;  ///< [block_keys]; PN and NN, like the next two
  tile::Segment* tile_segments;   ///< [block_keys]
  QueryTile* query_tiles;         ///< [spatial tiles]
  QueryRun* query_runs;           ///< [block_keys]; IN, like what follows
  geometry::Range* windows;       ///< [block_keys]: keys along the last axis that a query of the block attends to
  KeyTile* key_tiles;             ///< [spatial tiles]
};

inline Private cut_private(const Problem& problem, Pass pass, const Tiling& t, const ProductFloats& floats,
                           WorkspaceCutter& cutter) {
  const bool backward = is_backward(pass);
  const int64_t dim = std::max(problem.head_dim, problem.head_dim_v);
  const int64_t padded_keys = t.block_keys + kMaxRows;
  Private p;
  p.packed = cutter.take<float>(floats.block);
  p.packing = cutter.take<float>(floats.packing);
  p.tile = cutter.take<float>(floats.tile);
  p.product = cutter.take<float>(floats.product);
  p.rows = cutter.take<float>(t.lanes * std::max(dim, kRunStride));
  p.tiles = cutter.take<float>(t.query_tiles() * floats.operand);
  p.operand_floats = floats.operand;
  p.misfits = cutter.take<uint32_t>(t.query_tiles() * floats.misfits);
  p.index = cutter.take<int32_t>(padded_keys);
  p.lanes = cutter.take<uint32_t>(padded_keys);
  p.block_segments = cutter.take<tile::Segment>(t.block_keys);
  p.tile_segments = cutter.take<tile::Segment>(t.block_keys);
  p.query_tiles = cutter.take<QueryTile>(t.spatial_tiles());
  p.query_runs = cutter.take<QueryRun>(backward ? t.block_keys : 0);
  p.windows = cutter.take<geometry::Range>(backward ? t.block_keys : 0);
  p.key_tiles = cutter.take<KeyTile>(backward ? t.spatial_tiles() : 0);
  return p;
}

/// The stored weights. Rows take an odd number of cache lines, so that those of neighbouring queries spread over all
/// sets of a cache.
inline StoredWeights stored_weights(const Problem& p, Pass pass, WorkspaceCutter& cutter) {
  const int64_t lines = geometry::ceil_div(p.keys_per_query(), kVectorFloats) | 1;
  return {p, pass, lines * kVectorFloats, cutter};
}

/// The workspace of a call: what is stored of all queries, and private memory for each worker.
class Workspace {
 public:
  Workspace(const Problem& p, Pass pass, const Tiling& t, const ProductFloats& floats, std::byte* memory)
      : problem_(p),
        pass_(pass),
        tiling_(t),
        floats_(floats),
        cutter_(memory),
        stored_(stored_weights(p, pass, cutter_)) {
    private_ = {memory + cutter_.size(),
                carved_bytes([&](WorkspaceCutter& cutter) { cut_private(p, pass, t, floats, cutter); })};
  }

  const StoredWeights& stored() const { return stored_; }
  Private of(int worker) const {
    WorkspaceCutter cutter = private_.of(worker);
    return cut_private(problem_, pass_, tiling_, floats_, cutter);
  }

 private:
  const Problem& problem_;
  const Pass pass_;
  const Tiling& tiling_;
  const ProductFloats floats_;
  WorkspaceCutter cutter_;
  const StoredWeights stored_;
  WorkerMemory private_;
};

}  // namespace nalab::gemm
