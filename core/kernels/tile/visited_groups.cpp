#include "core/kernels/tile/visited_groups.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>
#include <vector>

#include "core/geometry/tiles.h"
#include "core/kernels/tile/segments.h"

namespace nalab::tile {

namespace {

/// A super tile along one axis, by what it sees: positions count from its first key.
struct AxisView {
  int64_t keys;
  std::vector<std::array<int64_t, 2>> of_tiles;  ///< begin and end of the keys of each query tile

  bool operator<(const AxisView& other) const {
    return std::tie(keys, of_tiles) < std::tie(other.keys, other.of_tiles);
  }
};

/// The views of an axis, and how many super tiles of all dilation groups have them. Most are alike.
std::map<AxisView, int64_t> views_along(const Axis& axis, int64_t query, int64_t super, int64_t kv) {
  std::map<AxisView, int64_t> views;
  const auto add_groups = [&](const geometry::AxisMask& mask, int64_t groups) {
    const geometry::TileAxis supers{mask.length, super}, kv_tiles{mask.length, kv};
    for (int64_t i = 0; i < supers.count(); ++i) {
      const geometry::Range queries = supers.range(i);
      const geometry::Range keys = kv_tiles.covering(mask.keys_of_any(queries));
      AxisView view{keys.size(), {}};
      for (int64_t begin = queries.begin; begin < queries.end; begin += query) {
        const geometry::Range tile{begin, std::min(begin + query, queries.end)};
        const geometry::Range seen = kv_tiles.covering(mask.keys_of_any(tile));
        view.of_tiles.push_back({seen.begin - keys.begin, seen.end - keys.begin});
      }
      views[view] += groups;
    }
  };
  // The first extent mod dilation groups are one position longer than the others.
  const int64_t longer = axis.extent % axis.dilation;
  add_groups(axis.group_mask(axis.dilation - 1), axis.dilation - longer);
  if (longer > 0) add_groups(axis.group_mask(0), longer);
  return views;
}

/// Rows of the groups that the query tiles of a super tile visit.
int64_t rows_of_super_tile(const std::array<const AxisView*, 3>& views, int64_t extra_tokens, int64_t block_keys,
                           int64_t group) {
  geometry::Box keys;
  for (int axis = 0; axis < 3; ++axis) keys[axis] = {0, views[axis]->keys};
  int64_t rows = 0;
  KeyBlock block;
  for (KeyCursor cursor(keys, extra_tokens); !cursor.done();) {
    block.take(cursor, block_keys, 1);
    for (const auto& x1 : views[0]->of_tiles) {
      for (const auto& x2 : views[1]->of_tiles) {
        for (const auto& x3 : views[2]->of_tiles) {
          int64_t next = 0;
          for (const Segment& segment : block.segments()) {
            geometry::Range seen = segment.x3;
            if (!segment.is_extra()) {
              if (segment.x1 < x1[0] || segment.x1 >= x1[1] || segment.x2 < x2[0] || segment.x2 >= x2[1]) continue;
              seen = geometry::intersect(seen, {x3[0], x3[1]});
              if (seen.empty()) continue;
            }
            const int64_t offset = segment.first - segment.x3.begin;
            next =
                for_each_group({seen.begin + offset, seen.end + offset}, group, next, [&](int64_t) { rows += group; });
          }
        }
      }
    }
  }
  return rows;
}

}  // namespace

int64_t visited_group_rows(const Problem& problem, const Tiling& tiling, int64_t group) {
  const auto axes = problem.axes3();
  std::array<std::map<AxisView, int64_t>, 3> views;
  for (int axis = 0; axis < 3; ++axis) {
    views[axis] = views_along(axes[axis], tiling.query[axis], tiling.super_queries(axis), tiling.kv[axis]);
  }
  int64_t rows = 0;
  for (const auto& [x1, count1] : views[0]) {
    for (const auto& [x2, count2] : views[1]) {
      for (const auto& [x3, count3] : views[2]) {
        const int64_t count = count1 * count2 * count3;
        rows += count * rows_of_super_tile({&x1, &x2, &x3}, problem.extra_tokens, tiling.block_keys, group);
      }
    }
  }
  return rows;
}

}  // namespace nalab::tile
