// Queries of a tile, and the part of their haloed key tile that each of them attends to.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "core/geometry/tiles.h"
#include "core/kernels/fused/lanes.h"
#include "core/kernels/token_rows.h"

namespace nalab::gemm {

/// Neighbouring keys along the last axis of the layout, or neighbouring extra tokens, in a block of packed keys.
struct Run {
  int64_t x1 = 0, x2 = 0;  ///< positions in the dilation group
  geometry::Range x3;
  int64_t first = 0;   ///< row of the block that holds x3.begin
  bool extra = false;  ///< x3 counts extra tokens, which every query attends to
};

/// The keys of one run that one query attends to.
struct RowPart {
  geometry::Range x3;
  int64_t column = 0;  ///< of x3.begin in the query's row of weights
};

/// Where the keys of a query lie in its row of weights: its window in row-major order, then the extra tokens.
class WeightRow {
 public:
  WeightRow() = default;
  explicit WeightRow(const geometry::Box& keys)
      : step1_(keys[1].size() * keys[2].size()),
        step2_(keys[2].size()),
        origin_(keys[0].begin * step1_ + keys[1].begin * step2_ + keys[2].begin),
        x3_(keys[2]),
        window_keys_(geometry::size(keys)) {}

  /// Requires that the window holds x1 and x2 of the run.
  RowPart part(const Run& run) const {
    if (run.extra) return {run.x3, window_keys_ + run.x3.begin};
    const geometry::Range x3 = geometry::intersect(x3_, run.x3);
    return {x3, run.x1 * step1_ + run.x2 * step2_ + x3.begin - origin_};
  }

 private:
  int64_t step1_ = 1, step2_ = 1, origin_ = 0;
  geometry::Range x3_;
  int64_t window_keys_ = 1;
};

/// The queries of a micro tile on vector lanes.
class QueryTile {
 public:
  /// `box`: positions in the dilation group `group`.
  QueryTile(const std::array<geometry::Axis, 3>& axes, const Token& group, const geometry::Box& box,
            const fused::LaneShape& shape) {
    geometry::GroupMask mask;
    for (int axis = 0; axis < geometry::kAxes; ++axis) mask[axis] = axes[axis].group_mask(group[axis]);
    lanes_.place(mask, box, shape);
    const int64_t count = shape.steps(0) * shape.steps(1) * shape.steps(2);
    for (int64_t lane = 0; lane < count; ++lane) {
      const auto position = lanes_.query(lane);
      geometry::Box keys;
      for (int axis = 0; axis < geometry::kAxes; ++axis) {
        keys[axis] = mask[axis].keys(position[axis]);
        tokens_[lane][axis] = axes[axis].coordinate(group[axis], position[axis]);
      }
      rows_[lane] = WeightRow(keys);
      if (lanes_.inside(lane)) inside_ |= 1u << lane;
    }
  }

  const fused::LaneTile& lanes() const { return lanes_; }
  /// Coordinates in the layout; a lane beyond the layout repeats another one's.
  const Token& token(int64_t lane) const { return tokens_[lane]; }
  bool inside(int64_t lane) const { return (inside_ >> lane & 1u) != 0; }

  /// Calls body(lane, part) for each query of the layout that attends to keys of the run.
  template <class Body>
  void for_each_part(const Run& run, const Body& body) const {
    uint32_t bits = inside_;
    if (!run.extra) bits &= lanes_.attending(0, run.x1) & lanes_.attending(1, run.x2);
    for (; bits != 0; bits &= bits - 1) {
      const int lane = std::countr_zero(bits);
      const RowPart part = rows_[lane].part(run);
      if (!part.x3.empty()) body(lane, part);
    }
  }

 private:
  fused::LaneTile lanes_;
  std::array<Token, fused::kMaxLanes> tokens_;
  std::array<WeightRow, fused::kMaxLanes> rows_;
  uint32_t inside_ = 0;
};

}  // namespace nalab::gemm
