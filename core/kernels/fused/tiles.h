// Tile shapes of the fused kernel: what we choose, apart from what the user wants.
#pragma once

#include <array>
#include <cstdint>

#include "core/problem.h"

namespace nalab::fused {

/// How KV tiles lie (Generalized NA, 2504.16922). Dynamic: they begin where the keys of a query tile begin. Static: on
/// a fixed grid, so that a query tile also visits the keys of its outermost KV tiles that no query attends to.
enum class KvTiling { dynamic_tiles, static_tiles };

/// Shapes are per axis of the embedded layout, in positions of a dilation group.
///
/// A micro tile is the unit of computation: its queries lie on vector lanes, and it visits every key that one of them
/// attends to. Its shape decides how much work is wasted on masked pairs. A super tile is the unit of scheduling: its
/// micro tiles share each block of packed keys and values. Its shape decides how often keys are packed.
struct Tiles {
  std::array<int64_t, 3> micro{1, 1, 1};  ///< queries; their product is `lanes`
  std::array<int64_t, 3> kv{1, 1, 1};     ///< keys that are visited all or none; 1x1x1 with dynamic KV tiles
  int64_t lanes = 32;                     ///< 32, or 16 where windows are small and masked pairs cost more
  std::array<int64_t, 3> super{1, 1, 1};  ///< micro tiles
  int64_t heads = 1;                      ///< query heads of one kv head in a super tile
  int64_t block_keys = 256;               ///< keys that are packed at a time

  int64_t spatial_micros() const { return super[0] * super[1] * super[2]; }
  int64_t micros() const { return spatial_micros() * heads; }
  /// Queries of a super tile along an axis.
  int64_t super_queries(int axis) const { return micro[axis] * super[axis]; }
};

/// The shapes for a valid problem. They depend on the problem alone, never on the machine or the thread count: the
/// order of sums, and with it every bit of the result, follows from them. The passes differ in what they keep in cache
/// for a query and a key.
Tiles choose_tiles(const Problem& problem, Pass pass = Pass::forward, KvTiling tiling = KvTiling::dynamic_tiles);

/// (query lane, key) pairs that the micro tiles of one head of one batch entry visit, masked ones and lanes beyond the
/// layout included.
int64_t visited_pairs(const Problem& problem, const Tiles& tiles);

}  // namespace nalab::fused
