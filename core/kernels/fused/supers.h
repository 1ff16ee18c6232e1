// The tasks of a pass: super tiles of queries.
#pragma once

#include <array>
#include <cstdint>

#include "core/kernels/fused/tiles.h"
#include "core/kernels/token_rows.h"

namespace nalab::fused {

/// The queries of one task: a super tile of one dilation group, for tiles.heads query heads of one kv head.
struct Super {
  int64_t batch = 0;
  int64_t head = 0;         ///< the first of the query heads
  int64_t head_kv = 0;      ///< their kv head
  Token group{};            ///< dilation group
  geometry::Box queries{};  ///< positions in the dilation group; empty where a group lacks the last tile
};

/// All super tiles of a problem, numbered: those of one kv head and one dilation group follow each other.
class Supers {
 public:
  Supers(const Problem& problem, const Tiles& tiles)
      : axes_(problem.axes3()),
        batch_(problem.batch),
        heads_(tiles.heads),
        head_steps_(problem.heads / tiles.heads),
        heads_of_kv_(problem.heads / problem.heads_kv) {
    for (int axis = 0; axis < 3; ++axis) {
      tile_[axis] = tiles.super_queries(axis);
      cut_[axis] = geometry::TileAxis{axes_[axis].group_length(0), tile_[axis]}.count();
      groups_[axis] = axes_[axis].dilation;
    }
  }

  int64_t count() const { return of_group() * groups_[0] * groups_[1] * groups_[2] * head_steps_ * batch_; }
  /// The super tiles of a group and `tiles.heads` heads.
  int64_t of_group() const { return cut_[0] * cut_[1] * cut_[2]; }

  Super at(int64_t number) const {
    const Token place = token_at(cut_, number % of_group());
    number /= of_group();
    Super super;
    super.group = token_at(groups_, number % (groups_[0] * groups_[1] * groups_[2]));
    number /= groups_[0] * groups_[1] * groups_[2];
    super.head = number % head_steps_ * heads_;
    super.head_kv = super.head / heads_of_kv_;
    super.batch = number / head_steps_;
    for (int axis = 0; axis < 3; ++axis) {
      // Later dilation groups may be a position shorter.
      super.queries[axis] =
          geometry::TileAxis{axes_[axis].group_length(super.group[axis]), tile_[axis]}.range(place[axis]);
    }
    return super;
  }

  geometry::GroupMask mask(const Token& group) const {
    geometry::GroupMask mask;
    for (int axis = 0; axis < 3; ++axis) mask[axis] = axes_[axis].group_mask(group[axis]);
    return mask;
  }

 private:
  std::array<Axis, 3> axes_;
  int64_t batch_, heads_, head_steps_, heads_of_kv_;
  std::array<int64_t, 3> tile_, cut_, groups_;
};

}  // namespace nalab::fused
