#include "core/gpu/axis_tiles.h"

#include <algorithm>

#include "core/geometry/tiles.h"

namespace nalab::gpu {

namespace {

using geometry::AxisMask;
using geometry::Range;

Span span(Range range) { return {static_cast<int32_t>(range.begin), static_cast<int32_t>(range.end)}; }

/// The KV tiles that a warpgroup visits, and those that are full for it.
void view(const AxisMask& mask, Range queries, const AxisCut& cut, const AxisTile& tile, Span& any, Span& full) {
  if (queries.empty()) return;
  const Range some = mask.keys_of_any(queries), all = mask.keys_of_all(queries);
  const geometry::TileAxis kv_tiles{mask.length - tile.kv_begin, cut.kv};
  any = span(kv_tiles.touching({some.begin - tile.kv_begin, some.end - tile.kv_begin}));
  // Unlike TileAxis::inside(), a tile that the end of the axis cuts short is never full: it has keys that nobody sees.
  full = span({geometry::ceil_div(all.begin - tile.kv_begin, cut.kv), (all.end - tile.kv_begin) / cut.kv});
  if (full.begin >= full.end) full = {any.begin, any.begin};
}

}  // namespace

std::vector<AxisTile> axis_tiles(const AxisMask& mask, const AxisCut& cut) {
  const geometry::TileAxis query_tiles{mask.length, cut.query};
  std::vector<AxisTile> tiles;
  tiles.reserve(static_cast<std::size_t>(query_tiles.count()));
  for (int64_t i = 0; i < query_tiles.count(); ++i) {
    const Range queries = query_tiles.range(i);
    const Range keys = mask.keys_of_any(queries);
    AxisTile& tile = tiles.emplace_back();
    tile.origin = tile.key_ranges = static_cast<int32_t>(queries.begin);
    tile.kv_begin = static_cast<int32_t>(keys.begin);
    tile.kv_tiles = static_cast<int32_t>(geometry::ceil_div(keys.size(), cut.kv));
    for (int w = 0; w < kWarpgroups; ++w) {
      const int64_t begin = queries.begin + (cut.warpgroup < cut.query ? w * cut.warpgroup : 0);
      view(mask, intersect({begin, begin + cut.warpgroup}, queries), cut, tile, tile.any[w], tile.full[w]);
    }
  }
  return tiles;
}

std::vector<KeyRange> key_ranges(const AxisMask& mask, const AxisCut& cut) {
  std::vector<KeyRange> ranges(static_cast<std::size_t>(geometry::ceil_div(mask.length, cut.query) * cut.query));
  for (std::size_t p = 0; p < ranges.size(); ++p) {
    ranges[p] = span(mask.keys(std::min(static_cast<int64_t>(p), mask.length - 1)));
  }
  return ranges;
}

}  // namespace nalab::gpu
