// What query tiles visit where keys come in whole groups: on matrix units.
#pragma once

#include <cstdint>

#include "core/problem.h"
#include "core/tiling.h"

namespace nalab::tile {

/// Rows in the groups of `group` rows that the query tiles of one head of one batch entry visit, summed over the query
/// tiles: a walk over blocks of keys (key_walk-inl.h) visits every group of a block that holds a key of the query tile.
/// A flat tiling counts on a flat problem.
int64_t visited_group_rows(const Problem& problem, const Tiling& tiling, int64_t group);

}  // namespace nalab::tile
