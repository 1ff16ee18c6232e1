// Query tiles along one axis, and the KV tiles that each visits there: of what plans and the choice of tiles are made.
#pragma once

#include <vector>

#include "core/geometry/axis.h"
#include "core/gpu/plan_data.h"

namespace nalab::gpu {

/// How tiles cut one axis.
struct AxisCut {
  int32_t query = 1;      ///< extent of the tile of both warpgroups
  int32_t warpgroup = 1;  ///< extent of a warpgroup's part: half of it on the split axis, else all of it
  int32_t kv = 1;         ///< extent of a KV tile

  bool operator==(const AxisCut&) const = default;
};

/// The query tiles along an axis of one dilation group, from the first on. key_ranges counts from the group's first
/// position.
std::vector<AxisTile> axis_tiles(const geometry::AxisMask& mask, const AxisCut& cut);

/// The keys of every query along the axis, those that lie in the last tile beyond the end included.
std::vector<KeyRange> key_ranges(const geometry::AxisMask& mask, const AxisCut& cut);

}  // namespace nalab::gpu
