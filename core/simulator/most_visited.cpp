// The query tile that visits most KV tiles along an axis, without looking at all of them.
#include <algorithm>
#include <numeric>

#include "core/simulator/counting.h"

namespace nalab::simulator {

using geometry::Axis;
using geometry::AxisMask;
using geometry::Range;
using geometry::TileAxis;
using geometry::view_of;

namespace {

/// After how many query tiles the views of them repeat, shifted by whole KV tiles, where the ends of the axis do not
/// matter; at most `most`.
int64_t period(const AxisMask& mask, int64_t query_tile, int64_t kv_tile, int64_t most) {
  const int64_t of_tiles = std::lcm(query_tile, kv_tile);
  if (of_tiles > mask.length) return most;
  return std::min(std::lcm(of_tiles, mask.stride) / query_tile, most);
}

int64_t most_visited(const AxisMask& mask, int64_t query_tile, int64_t kv_tile, KvTiling tiling, Effort& effort) {
  const TileAxis query_tiles{mask.length, query_tile};
  const int64_t count = query_tiles.count();
  // Tiles whose keys begin with the axis' first one see ever more of them, so the last of these sees most.
  const int64_t inner = first_where(count, [&](int64_t i) { return mask.keys_of_any(query_tiles.range(i)).begin > 0; });
  // Of those whose keys end with the last one the first sees most; but causal ones in the last stride group, which is
  // cut short, have one begin and later ends, so the last of them may see more.
  const int64_t outer = first_where(count, [&](int64_t i) {
    const Range queries = query_tiles.range(i);
    const bool is_cut_short = (queries.end - 1) / mask.stride * mask.stride + mask.stride > mask.length;
    return is_cut_short || mask.keys_of_any(queries).end == mask.length;
  });
  int64_t most = 0;
  const auto look_at = [&](int64_t i) {
    most = std::max(most, view_of(mask, query_tiles.range(i), kv_tile, tiling).visited.size());
  };
  if (inner > 0) look_at(inner - 1);
  if (outer < count) look_at(outer);
  look_at(count - 1);
  const int64_t end = std::min(outer, inner + period(mask, query_tile, kv_tile, count));
  effort.add(3 + std::max<int64_t>(end - inner, 0));
  for (int64_t i = inner; i < end; ++i) look_at(i);
  return most;
}

}  // namespace

int64_t most_visited(const Axis& axis, int64_t query_tile, int64_t kv_tile, KvTiling tiling, Effort& effort) {
  int64_t most = 0;
  for (const GroupKind& kind : group_kinds(axis)) {
    most = std::max(most, most_visited(kind.mask, query_tile, kv_tile, tiling, effort));
  }
  return most;
}

}  // namespace nalab::simulator
