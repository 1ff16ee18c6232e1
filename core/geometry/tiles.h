// Tiles over a token layout, and how a query tile sees a KV tile.
#pragma once

#include <array>
#include <cstdint>

#include "axis.h"

namespace nalab::geometry {

/// Token layouts have one to three axes. Those with fewer are embedded in three by leading axes of one token, which
/// change nothing: so the code is written once for all ranks.
inline constexpr int kAxes = 3;

/// One range of positions per axis.
using Box = std::array<Range, kAxes>;
/// The masks of one dilation group, one per axis.
using GroupMask = std::array<AxisMask, kAxes>;

constexpr int64_t size(const Box& box) { return box[0].size() * box[1].size() * box[2].size(); }

/// Where KV tiles lie (Generalized NA, 2504.16922).
enum class KvTiling : uint8_t {
  static_tiles,   ///< fixed in advance, counted from the first token: the tiles that hold an attended key
  dynamic_tiles,  ///< from the first key that the query tile attends to
};

/// Equal tiles over `length` positions; the last one may be cut short.
struct TileAxis {
  int64_t length = 1;
  int64_t tile = 1;

  constexpr int64_t count() const { return ceil_div(length, tile); }
  constexpr Range range(int64_t i) const { return {i * tile, std::min((i + 1) * tile, length)}; }
  /// The tiles that touch a non-empty range of positions.
  constexpr Range touching(Range positions) const { return {positions.begin / tile, ceil_div(positions.end, tile)}; }
  /// The positions of the tiles that touch a range.
  constexpr Range covering(Range positions) const {
    if (positions.empty()) return positions;
    const Range tiles = touching(positions);
    return {range(tiles.begin).begin, range(tiles.end - 1).end};
  }
  /// The tiles that lie wholly inside a range of positions; may be empty. The last tile ends with the axis.
  constexpr Range inside(Range positions) const {
    return {ceil_div(positions.begin, tile), positions.end == length ? count() : positions.end / tile};
  }
};

/// Number of keys that tiles of `tile` queries along an axis attend to, summed over the tiles: sum of
/// keys_of_any(tile).size(), in closed form.
constexpr int64_t keys_of_tiles(const AxisMask& mask, int64_t tile) {
  const int64_t whole = mask.length / tile;  // tiles that are not cut short
  const int64_t count = ceil_div(mask.length, tile);
  const int64_t ends =
      mask.causal ? tile * whole * (whole + 1) / 2 : mask.sum_of_begins(tile - 1, tile, whole) + whole * mask.window;
  const int64_t last_end = whole == count ? 0 : mask.keys(mask.length - 1).end;
  return ends + last_end - mask.sum_of_begins(0, tile, count);
}

/// How a query tile sees the KV tiles along one axis of a dilation group. The mask is a product over the axes, and so
/// is the view: a KV tile is visited if it is on every axis, and full if it is on every axis.
struct TileView {
  Range visited;     ///< KV tiles that hold a key some query attends to, counted from the first KV tile
  Range full;        ///< those of them in which every query attends to every key; may be empty
  int64_t keys = 0;  ///< in the visited tiles
};

/// Requires a non-empty range of queries.
constexpr TileView view_of(const AxisMask& mask, Range queries, int64_t kv_tile, KvTiling tiling) {
  const Range any = mask.keys_of_any(queries), all = mask.keys_of_all(queries);
  const int64_t origin = tiling == KvTiling::dynamic_tiles ? any.begin : 0;
  const TileAxis kv_tiles{mask.length - origin, kv_tile};
  TileView view;
  view.visited = kv_tiles.touching({any.begin - origin, any.end - origin});
  view.full = kv_tiles.inside({all.begin - origin, all.end - origin});
  view.keys = kv_tiles.range(view.visited.end - 1).end - kv_tiles.range(view.visited.begin).begin;
  return view;
}

/// The keys that at least one query of a tile attends to: a box, since the windows along an axis leave no gap.
constexpr Box keys_of_any(const GroupMask& mask, const Box& queries) {
  Box keys;
  for (int axis = 0; axis < kAxes; ++axis) keys[axis] = mask[axis].keys_of_any(queries[axis]);
  return keys;
}

/// The queries that attend to at least one key of a tile: a box as well.
constexpr Box queries_of_any(const GroupMask& mask, const Box& keys) {
  Box queries;
  for (int axis = 0; axis < kAxes; ++axis) queries[axis] = mask[axis].queries_of_any(keys[axis]);
  return queries;
}

}  // namespace nalab::geometry
