// The queries of a query tile on vector lanes, and which lanes attend to a key.
#pragma once

#include <array>
#include <cstdint>

#include "core/geometry/tiles.h"

namespace nalab::tile {

inline constexpr int kMaxLanes = 32;

/// Shape of query tiles: lane (i, j, k) in row-major order holds the query at step i, j, k along the axes.
class LaneShape {
 public:
  explicit LaneShape(const std::array<int64_t, 3>& steps) : steps_(steps) {
    const int64_t lanes = steps[0] * steps[1] * steps[2];
    for (int64_t lane = 0; lane < lanes; ++lane) {
      step_[lane] = {lane / (steps[2] * steps[1]), lane / steps[2] % steps[1], lane % steps[2]};
      for (int axis = 0; axis < 3; ++axis) {
        for (int64_t j = step(axis, lane) + 1; j <= steps[axis]; ++j) before_[axis][j] |= 1u << lane;
      }
    }
  }

  int64_t steps(int axis) const { return steps_[axis]; }
  int64_t step(int axis, int64_t lane) const { return step_[lane][axis]; }
  /// The lanes of the steps before j along an axis, as bits, for j in [0, steps].
  const std::array<uint32_t, kMaxLanes + 1>& before(int axis) const { return before_[axis]; }

 private:
  std::array<int64_t, 3> steps_;
  std::array<std::array<int64_t, 3>, kMaxLanes> step_{};
  std::array<std::array<uint32_t, kMaxLanes + 1>, 3> before_{};
};

/// The windows of a tile's steps along one axis. Windows never move left, so the steps that attend to a position are
/// consecutive: their lanes are the difference of two of LaneShape::before.
class LaneAxis {
 public:
  /// `queries`: the valid positions; steps beyond them repeat the last one, so that they change no mask. Keys are taken
  /// in whole KV tiles.
  void assign(const geometry::AxisMask& mask, geometry::Range queries, int64_t count, int64_t kv_tile) {
    count_ = count;
    keys_ = geometry::TileAxis{mask.length, kv_tile}.covering(mask.keys_of_any(queries));
    common_ = mask.keys_of_all(queries);
    for (int64_t j = 0; j < count; ++j) {
      const geometry::Range keys = mask.keys(std::min(queries.begin + j, queries.end - 1));
      begin_[j] = keys.begin;
      end_[j] = keys.end;
    }
  }

  geometry::Range keys() const { return keys_; }

  uint32_t attending(int64_t position, const std::array<uint32_t, kMaxLanes + 1>& before) const {
    if (common_.contains(position)) return before[count_];
    int64_t ended = 0, begun = 0;
    while (ended < count_ && end_[ended] <= position) ++ended;
    while (begun < count_ && begin_[begun] <= position) ++begun;
    return before[begun] & ~before[ended];
  }

  /// lanes[i] = row & attending(positions.begin + i). Returns the intersection of all.
  uint32_t attending_run(geometry::Range positions, uint32_t row, const std::array<uint32_t, kMaxLanes + 1>& before,
                         uint32_t* lanes) const {
    int64_t ended = 0, begun = 0;
    uint32_t common = row;
    int64_t position = positions.begin;
    if (common_.contains(positions)) {
      std::fill_n(lanes, positions.size(), row & before[count_]);
      return row & before[count_];
    }
    while (position < positions.end) {
      while (ended < count_ && end_[ended] <= position) ++ended;
      while (begun < count_ && begin_[begun] <= position) ++begun;
      const uint32_t bits = row & before[begun] & ~before[ended];
      // Nothing changes before the next window ends or begins.
      int64_t next = positions.end;
      if (ended < count_) next = std::min(next, end_[ended]);
      if (begun < count_) next = std::min(next, begin_[begun]);
      for (; position < next; ++position) *lanes++ = bits;
      common &= bits;
    }
    return common;
  }

 private:
  int64_t count_ = 0;
  geometry::Range keys_;
  geometry::Range common_;  ///< positions that all steps attend to; may be empty
  std::array<int64_t, kMaxLanes> begin_, end_;
};

/// A query tile on a box of queries of a dilation group.
class LaneTile {
 public:
  void assign(const geometry::GroupMask& mask, const geometry::Box& box, const LaneShape& shape,
              const std::array<int64_t, 3>& kv_tile) {
    box_ = box;
    shape_ = &shape;
    for (int axis = 0; axis < 3; ++axis) axes_[axis].assign(mask[axis], box[axis], shape.steps(axis), kv_tile[axis]);
  }

  /// Position of the tile's first query along an axis.
  int64_t first(int axis) const { return box_[axis].begin; }
  /// Position of a lane's query; a lane beyond the layout repeats the last query along the axis.
  std::array<int64_t, 3> query(int64_t lane) const {
    std::array<int64_t, 3> position;
    for (int axis = 0; axis < 3; ++axis) {
      position[axis] = std::min(box_[axis].begin + shape_->step(axis, lane), box_[axis].end - 1);
    }
    return position;
  }
  /// The lanes whose queries are not beyond the layout, as bits.
  uint32_t inside() const {
    uint32_t lanes = ~0u;
    for (int axis = 0; axis < 3; ++axis) lanes &= shape_->before(axis)[box_[axis].size()];
    return lanes;
  }

  /// Keys along an axis that are visited: whole KV tiles with a key that some lane attends to.
  geometry::Range keys(int axis) const { return axes_[axis].keys(); }
  /// The lanes that attend to a position along an axis, as bits.
  uint32_t attending(int axis, int64_t position) const { return axes_[axis].attending(position, shape_->before(axis)); }
  /// As LaneAxis::attending_run.
  uint32_t attending_run(int axis, geometry::Range positions, uint32_t row, uint32_t* lanes) const {
    return axes_[axis].attending_run(positions, row, shape_->before(axis), lanes);
  }

 private:
  geometry::Box box_;
  const LaneShape* shape_ = nullptr;
  std::array<LaneAxis, 3> axes_;
};

}  // namespace nalab::tile
