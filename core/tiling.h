// How a tiled kernel cuts a problem: what is chosen, apart from what the user wants.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "error.h"
#include "geometry/axis.h"

namespace nalab {

/// Shapes are per axis of the layout embedded in three axes, in positions of a dilation group.
///
/// A query tile is the unit of computation: its queries lie on vector lanes, and it visits every key that one of them
/// attends to. Its shape decides how much work is wasted on masked pairs. A super tile is the unit of scheduling: its
/// query tiles share each block of packed keys and values. Its shape decides how often keys are packed. KV tiles are
/// Generalized NA's (2504.16922): 1x1x1 is dynamic KV tiling, where the keys of a query tile begin with the first that
/// a query attends to; larger ones lie on a fixed grid (static KV tiling), and keys are visited by whole KV tiles.
struct Tiling {
  std::array<int64_t, 3> query{1, 1, 1};  ///< queries of a query tile
  std::array<int64_t, 3> super{1, 1, 1};  ///< query tiles of a super tile
  std::array<int64_t, 3> kv{1, 1, 1};     ///< keys of a KV tile
  int64_t lanes = 32;                     ///< queries computed side by side; the product of `query`
  int64_t heads = 1;                      ///< query heads of one kv head in a super tile
  int64_t block_keys = 256;               ///< keys that are packed at a time
  /// The kernel works on the tokens in row-major order as a single axis (self attention alone).
  bool flat = false;

  bool operator==(const Tiling&) const = default;

  bool has_static_kv() const { return kv != std::array<int64_t, 3>{1, 1, 1}; }
  /// Query tiles of a super tile, over its queries and over its heads as well.
  int64_t spatial_tiles() const { return super[0] * super[1] * super[2]; }
  int64_t query_tiles() const { return spatial_tiles() * heads; }
  /// Queries of a super tile along an axis.
  int64_t super_queries(int axis) const { return query[axis] * super[axis]; }

  /// "q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256", with "flat_" before it if flat: text that parse_tiling() reads back.
  std::string to_string() const;
};

/// Query tiles of a super tile, at most.
inline constexpr int64_t kMaxQueryTiles = 32;
/// Extent of a KV tile along an axis, at most.
inline constexpr int64_t kMaxKvTile = 1024;
/// Keys of a block, at most.
inline constexpr int64_t kMaxBlockKeys = 512;

/// Throws Error that names the text and the rule.
Tiling parse_tiling(std::string_view text);

/// The Error for a flat tiling and tensors whose tokens do not lie in a row.
Error cannot_flatten(const Tiling& tiling);

}  // namespace nalab
