// The tasks of a pass: super tiles of queries (or of keys), and the tiles that they are cut into.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/geometry/tiles.h"
#include "core/problem.h"
#include "core/tiling.h"

namespace nalab::tile {

/// Tasks of this process with numbers that a matrix unit cannot take, which were computed in float32 too: it takes
/// subnormal numbers as zero, and forward weights of fused and banded are not held against the greatest score.
inline std::atomic<int64_t> careful_tasks = 0;

/// The tokens of one task: a super tile of one dilation group, for some heads.
struct SuperTile {
  int64_t batch = 0;
  int64_t head = 0;     ///< the first of its heads: query heads, or the kv head of a tile of keys
  int64_t head_kv = 0;  ///< their kv head
  Token group{};        ///< dilation group
  geometry::Box
      tokens{};  ///< queries or keys, as positions in the dilation group; empty if a group lacks the last tile
};

/// All super tiles of a problem, numbered: those of the same heads and one dilation group follow each other.
class SuperTiles {
 public:
  /// Super tiles of queries, for tiling.heads query heads of one kv head each.
  SuperTiles(const Problem& problem, const Tiling& tiling)
      : SuperTiles(problem, tiling, problem.heads, tiling.heads, problem.heads / problem.heads_kv) {}

  /// Super tiles of keys, for one kv head each.
  static SuperTiles of_keys(const Problem& problem, const Tiling& tiling) {
    return SuperTiles(problem, tiling, problem.heads_kv, 1, 1);
  }

  int64_t count() const { return of_group() * groups_[0] * groups_[1] * groups_[2] * head_steps_ * batch_; }
  /// The super tiles of a group and the heads of one task.
  int64_t of_group() const { return cut_[0] * cut_[1] * cut_[2]; }

  SuperTile at(int64_t number) const {
    const Token tile = token_at(cut_, number % of_group());
    number /= of_group();
    SuperTile super;
    super.group = token_at(groups_, number % (groups_[0] * groups_[1] * groups_[2]));
    number /= groups_[0] * groups_[1] * groups_[2];
    super.head = number % head_steps_ * heads_;
    super.head_kv = super.head / heads_per_kv_;
    super.batch = number / head_steps_;
    for (int axis = 0; axis < 3; ++axis) {
      // Later dilation groups may be a position shorter.
      super.tokens[axis] =
          geometry::TileAxis{axes_[axis].group_length(super.group[axis]), tile_[axis]}.range(tile[axis]);
    }
    return super;
  }

  geometry::GroupMask mask(const Token& group) const {
    geometry::GroupMask mask;
    for (int axis = 0; axis < 3; ++axis) mask[axis] = axes_[axis].group_mask(group[axis]);
    return mask;
  }

 private:
  SuperTiles(const Problem& problem, const Tiling& tiling, int64_t heads, int64_t heads_of_task, int64_t heads_per_kv)
      : axes_(problem.axes3()),
        batch_(problem.batch),
        heads_(heads_of_task),
        head_steps_(heads / heads_of_task),
        heads_per_kv_(heads_per_kv) {
    for (int axis = 0; axis < 3; ++axis) {
      tile_[axis] = tiling.super_queries(axis);
      cut_[axis] = geometry::TileAxis{axes_[axis].group_length(0), tile_[axis]}.count();
      groups_[axis] = axes_[axis].dilation;
    }
  }

  std::array<Axis, 3> axes_;
  int64_t batch_, heads_, head_steps_, heads_per_kv_;
  std::array<int64_t, 3> tile_, cut_, groups_;
};

/// Cuts a super tile into query tiles (or tiles of keys), in row-major order.
class TileCut {
 public:
  TileCut() = default;
  TileCut(const geometry::Box& tokens, const std::array<int64_t, 3>& tile) : tokens_(tokens) {
    for (int axis = 0; axis < 3; ++axis) {
      cut_[axis] = {tokens[axis].size(), tile[axis]};
      counts_[axis] = cut_[axis].count();
    }
  }

  int64_t count() const { return counts_[0] * counts_[1] * counts_[2]; }
  /// Positions of tile i in the dilation group.
  geometry::Box box(int64_t i) const {
    const Token tile = token_at(counts_, i);
    geometry::Box box;
    for (int axis = 0; axis < 3; ++axis) {
      const geometry::Range range = cut_[axis].range(tile[axis]);
      box[axis] = {tokens_[axis].begin + range.begin, tokens_[axis].begin + range.end};
    }
    return box;
  }

 private:
  geometry::Box tokens_;
  std::array<geometry::TileAxis, 3> cut_;
  std::array<int64_t, 3> counts_{0, 0, 0};
};

/// Coordinates in the layout of a position of a dilation group.
inline Token coordinates(const std::array<Axis, 3>& axes, const Token& group, const Token& position) {
  Token token;
  for (int axis = 0; axis < 3; ++axis) token[axis] = axes[axis].coordinate(group[axis], position[axis]);
  return token;
}

}  // namespace nalab::tile
