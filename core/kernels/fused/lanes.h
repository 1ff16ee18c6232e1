// The queries of a micro tile on vector lanes, and which lanes attend to a key.
#pragma once

#include <array>
#include <cstdint>

#include "core/geometry/tiles.h"

namespace nalab::fused {

inline constexpr int kMaxLanes = 32;

/// Positions along one axis belong to `count` steps of the tile; the lanes of a step are a set of bits. Windows never move
/// left, so the steps that attend to a position are consecutive: found by two comparisons and cut out of prefix unions.
class LaneAxis {
 public:
  /// `queries`: the valid positions; steps beyond them repeat the last one, so that they change no mask.
  void place(const geometry::AxisMask& mask, geometry::Range queries, int64_t count,
             const std::array<uint32_t, kMaxLanes + 1>& prefix) {
    count_ = count;
    prefix_ = prefix;
    keys_ = mask.keys_of_any(queries);
    for (int64_t j = 0; j < count; ++j) {
      const geometry::Range keys = mask.keys(std::min(queries.begin + j, queries.end - 1));
      begin_[j] = keys.begin;
      end_[j] = keys.end;
    }
  }

  geometry::Range keys() const { return keys_; }

  uint32_t attending(int64_t position) const {
    int64_t ended = 0, begun = 0;
    while (ended < count_ && end_[ended] <= position) ++ended;
    while (begun < count_ && begin_[begun] <= position) ++begun;
    return prefix_[begun] & ~prefix_[ended];
  }

  /// lanes[i] = row & attending(positions.begin + i). Returns the intersection of all.
  uint32_t attending_run(geometry::Range positions, uint32_t row, uint32_t* lanes) const {
    int64_t ended = 0, begun = 0;
    uint32_t common = row;
    int64_t position = positions.begin;
    while (position < positions.end) {
      while (ended < count_ && end_[ended] <= position) ++ended;
      while (begun < count_ && begin_[begun] <= position) ++begun;
      const uint32_t bits = row & prefix_[begun] & ~prefix_[ended];
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
  std::array<uint32_t, kMaxLanes + 1> prefix_{};  ///< [j]: lanes of the steps before j
  std::array<int64_t, kMaxLanes> begin_{}, end_{};
};

/// A micro tile: lane (i, j, k) in row-major order holds the query at box begin + (i, j, k).
class LaneTile {
 public:
  void place(const geometry::GroupMask& mask, const geometry::Box& box, const std::array<int64_t, 3>& shape) {
    box_ = box;
    shape_ = shape;
    const int64_t lanes = shape[0] * shape[1] * shape[2];
    for (int axis = 0; axis < 3; ++axis) {
      std::array<uint32_t, kMaxLanes + 1> prefix{};
      for (int64_t lane = 0; lane < lanes; ++lane) {
        for (int64_t j = step(axis, lane) + 1; j <= shape[axis]; ++j) prefix[j] |= 1u << lane;
      }
      axes_[axis].place(mask[axis], box[axis], shape[axis], prefix);
    }
  }

  /// Position of a lane's query; a lane beyond the layout repeats the last query along the axis.
  std::array<int64_t, 3> query(int64_t lane) const {
    std::array<int64_t, 3> position;
    for (int axis = 0; axis < 3; ++axis) {
      position[axis] = std::min(box_[axis].begin + step(axis, lane), box_[axis].end - 1);
    }
    return position;
  }
  bool inside(int64_t lane) const {
    for (int axis = 0; axis < 3; ++axis) {
      if (box_[axis].begin + step(axis, lane) >= box_[axis].end) return false;
    }
    return true;
  }

  /// Keys along an axis that some lane attends to.
  geometry::Range keys(int axis) const { return axes_[axis].keys(); }
  /// The lanes that attend to a position along an axis, as bits.
  uint32_t attending(int axis, int64_t position) const { return axes_[axis].attending(position); }
  /// As LaneAxis::attending_run.
  uint32_t attending_run(int axis, geometry::Range positions, uint32_t row, uint32_t* lanes) const {
    return axes_[axis].attending_run(positions, row, lanes);
  }

 private:
  int64_t step(int axis, int64_t lane) const {
    if (axis == 2) return lane % shape_[2];
    if (axis == 1) return lane / shape_[2] % shape_[1];
    return lane / (shape_[2] * shape_[1]);
  }

  geometry::Box box_;
  std::array<int64_t, 3> shape_{1, 1, 1};
  std::array<LaneAxis, 3> axes_;
};

}  // namespace nalab::fused
