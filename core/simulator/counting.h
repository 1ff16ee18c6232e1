// What the parts of the simulator share: counts along one axis, and how they combine.
#pragma once

#include <array>
#include <vector>

#include "core/geometry/tiles.h"
#include "core/simulator/simulator.h"

namespace nalab::simulator {

/// Dilation groups of one axis that have the same mask.
struct GroupKind {
  geometry::AxisMask mask;
  int64_t count = 1;
};

/// At most two kinds: the first groups of a ragged axis are one position longer.
std::vector<GroupKind> group_kinds(const geometry::Axis& axis);

/// Counts along one axis, over all its dilation groups.
Simulation count_axis(const geometry::Axis& axis, int64_t query_tile, int64_t kv_tile, KvTiling tiling);

/// The mask, the tiles and whether a tile is full are products over the axes, and so is every count.
Simulation operator*(const Simulation& a, const Simulation& b);

/// Counts of single-dimensional tiling, with query_tokens and kv_tokens in a tile.
Simulation count_flattened(const std::array<geometry::Axis, geometry::kAxes>& axes, int64_t query_tokens,
                           int64_t kv_tokens, KvTiling tiling);

/// The counts with the tiles and pairs of the extra tokens of a problem.
Simulation with_extra_tokens(Simulation layout, const Problem& problem, int64_t kv_tokens);

/// Throws Error if the problem or the tiles are invalid or too large to be counted.
void validate(const Problem& problem, const TileShapes& tiles);

}  // namespace nalab::simulator
