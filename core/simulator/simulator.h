// How much of the sparsity a tiled kernel can turn into speed, counted without running one.
//
// The analytical model of Generalized NA (2504.16922): a kernel works through the layout in query tiles, and for each
// one visits whole KV tiles. The tiles visited, against all KV tiles, bound its speedup over self attention from above.
#pragma once

#include <cstdint>
#include <vector>

#include "core/problem.h"

namespace nalab::simulator {

using geometry::KvTiling;

/// What a tile is a box of.
enum class TileRank : uint8_t {
  multi_dimensional,   ///< the token layout
  single_dimensional,  ///< the layout flattened in row-major order, with as many tokens in a tile
};

/// Tile shapes and how they are laid. Dilation groups are tiled one by one; the last tile of an axis may be cut short.
struct TileShapes {
  std::vector<int64_t> query;  ///< extents of a query tile, one for each axis of the layout, 1 to kMaxTileExtent
  std::vector<int64_t> kv;     ///< extents of a KV tile, likewise
  KvTiling kv_tiling = KvTiling::static_tiles;
  TileRank tile_rank = TileRank::multi_dimensional;

  int64_t query_tokens() const;
  int64_t kv_tokens() const;
  /// Throws Error that names the axis, the tile and the rule if the tiles do not fit the layout's rank or an extent
  /// is out of range.
  void validate(const Problem& problem) const;
};

/// The tiles of the published figures (2504.16922, on B200), static and of the layout's rank, 1 to 3: 256 queries and
/// 128 keys.
TileShapes published_tiles(int rank);

inline constexpr int64_t kMaxTileExtent = int64_t{1} << 20;

/// Exact counts for one head of one batch entry, and what follows from them. A pair is one query and one key. Tokens
/// that a cut-short tile lacks are not counted as pairs.
///
/// Extra tokens are counted as further KV tiles, ceil(extra tokens / tokens of a KV tile) of them, that every query
/// tile visits, and self attention too; they never need a mask.
struct Simulation {
  int64_t query_tiles = 1;
  int64_t tiles_total = 1;          ///< KV tiles of self attention without dilation: what each query tile would visit
  int64_t tiles_visited_worst = 1;  ///< KV tiles that the query tile with the most of them visits
  int64_t tiles_visited = 1;        ///< KV tiles visited, summed over the query tiles
  int64_t tiles_full = 1;           ///< those of them that need no fine mask: every query attends to every key
  int64_t attended_pairs = 1;       ///< pairs that the definition needs
  int64_t computed_pairs = 1;       ///< pairs of all visited tiles
  int64_t all_pairs = 1;            ///< pairs of self attention

  double tiles_visited_mean() const { return ratio(tiles_visited, query_tiles); }
  /// Speedup over self attention if all query tiles take as long as the worst one: the papers' "simulated" speedup.
  double speedup_worst() const { return ratio(tiles_total, tiles_visited_worst); }
  /// Speedup over self attention if query tiles that visit fewer KV tiles finish earlier.
  double speedup_mean() const { return static_cast<double>(tiles_total) / tiles_visited_mean(); }
  /// The FLOP-wise bound.
  double speedup_flops() const { return ratio(all_pairs, attended_pairs); }
  /// Share of self attention's pairs that is not attended.
  double sparsity() const { return 1.0 - ratio(attended_pairs, all_pairs); }
  /// Share of the visited tiles that need the fine mask.
  double partial_tiles_share() const { return ratio(tiles_visited - tiles_full, tiles_visited); }
  /// Share of the multiply-adds whose results the mask throws away.
  double wasted_share() const { return ratio(computed_pairs - attended_pairs, computed_pairs); }
  /// No visited tile needs the fine mask: nothing is wasted.
  bool perfectly_block_sparse() const { return tiles_full == tiles_visited; }

  bool operator==(const Simulation&) const = default;

 private:
  static double ratio(int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); }
};

/// Counts the tiles. Takes time in proportion to the query tiles along each axis (multi-dimensional tiling), or to the
/// query tiles times the rows of their windows (single-dimensional).
/// Throws Error if the problem or the tiles are invalid, the pairs of self attention do not fit in 64 bits, or
/// more than 2^27 query tiles, or rows of keys, would have to be looked at.
Simulation simulate(const Problem& problem, const TileShapes& tiles);

/// The part of an application that attention takes.
struct Application {
  double attention_share = 1.0;  ///< of the run time with self attention throughout, 0 to 1
  int64_t steps = 1;             ///< such as diffusion steps, at least 1
  int64_t dense_steps = 0;       ///< steps left to self attention, 0 to steps

  /// Throws Error that names the value and the rule.
  void validate() const;
};

/// Amdahl's law: speedup of an application whose attention gets faster by `speedup` in all but the dense steps.
/// Throws Error if the application is invalid.
double end_to_end_speedup(double speedup, const Application& application);

/// As the published tables have it: the speedup of attention is rounded to one decimal first.
double round_as_published(double speedup);

/// Bytes moved by token permutation, the copy that makes the tokens of a tile contiguous: q, k and v are read and
/// written before, out is read and written after. 0 for one axis without dilation, where tiles are contiguous
/// already. Divided by a bandwidth it gives the seconds. Requires a valid problem.
double token_permutation_bytes(const Problem& problem);

}  // namespace nalab::simulator
