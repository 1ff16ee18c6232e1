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

/// What a question costs to answer: the query tiles, or rows of keys, that are looked at. More than kMost of them would
/// take more than a few seconds, and are refused.
class Effort {
 public:
  static constexpr int64_t kMost = int64_t{1} << 27;
  /// Throws Error if so many more are too many.
  void require(int64_t count) const;
  /// The same, and counts them.
  void add(int64_t count) {
    require(count);
    left_ -= count;
  }

 private:
  int64_t left_ = kMost;
};

/// The first of 0, 1, ... count - 1 for which a condition holds that then holds for all that follow; count if there is
/// none.
template <class Condition>
int64_t first_where(int64_t count, const Condition& condition) {
  int64_t begin = 0;
  for (int64_t end = count; begin < end;) {
    const int64_t middle = begin + (end - begin) / 2;
    if (condition(middle)) {
      end = middle;
    } else {
      begin = middle + 1;
    }
  }
  return begin;
}

/// Counts along one axis, over all its dilation groups.
Simulation count_axis(const geometry::Axis& axis, int64_t query_tile, int64_t kv_tile, KvTiling tiling, Effort& effort);

/// count_axis(...).tiles_visited_worst, but only looks at query tiles that may visit more than others.
int64_t most_visited(const geometry::Axis& axis, int64_t query_tile, int64_t kv_tile, KvTiling tiling, Effort& effort);

/// The mask, the tiles and whether a tile is full are products over the axes, and so is every count.
Simulation operator*(const Simulation& a, const Simulation& b);

/// Counts of single-dimensional tiling, with query_tokens and kv_tokens in a tile.
Simulation count_flattened(const std::array<geometry::Axis, geometry::kAxes>& axes, int64_t query_tokens,
                           int64_t kv_tokens, KvTiling tiling, Effort& effort);

/// The counts with the tiles and pairs of the extra tokens of a problem.
Simulation with_extra_tokens(Simulation layout, const Problem& problem, int64_t kv_tokens);

/// Throws Error if the problem or the tiles are invalid or too large to be counted.
void validate(const Problem& problem, const TileShapes& tiles);

}  // namespace nalab::simulator
