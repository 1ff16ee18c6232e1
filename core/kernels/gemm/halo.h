// Queries of a tile, and the part of their haloed key tile that each of them attends to; and the inverse.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/geometry/tiles.h"
#include "core/kernels/tile/lanes.h"
#include "core/kernels/tile/segments.h"
#include "core/problem.h"

namespace nalab::gemm {

/// The keys of one segment that one query attends to.
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

  /// Requires that the window holds x1 and x2 of the segment.
  RowPart part(const tile::Segment& segment) const {
    if (segment.is_extra()) return {segment.x3, window_keys_ + segment.x3.begin};
    const geometry::Range x3 = geometry::intersect(x3_, segment.x3);
    return {x3, segment.x1 * step1_ + segment.x2 * step2_ + x3.begin - origin_};
  }

 private:
  int64_t step1_ = 1, step2_ = 1, origin_ = 0;
  geometry::Range x3_;
  int64_t window_keys_ = 1;
};

/// The queries of a query tile on vector lanes.
class QueryTile {
 public:
  /// `box`: positions in the dilation group `group`.
  QueryTile(const std::array<geometry::Axis, 3>& axes, const Token& group, const geometry::Box& box,
            const tile::LaneShape& shape) {
    geometry::GroupMask mask;
    for (int axis = 0; axis < geometry::kAxes; ++axis) mask[axis] = axes[axis].group_mask(group[axis]);
    lanes_.assign(mask, box, shape, {1, 1, 1});
    int lane = 0;
    Token step;
    for (step[0] = 0; step[0] < shape.steps(0); ++step[0]) {
      for (step[1] = 0; step[1] < shape.steps(1); ++step[1]) {
        for (step[2] = 0; step[2] < shape.steps(2); ++step[2], ++lane) {
          bool inside = true;
          geometry::Box keys;
          for (int axis = 0; axis < geometry::kAxes; ++axis) {
            int64_t position = box[axis].begin + step[axis];
            inside = inside && position < box[axis].end;
            position = std::min(position, box[axis].end - 1);
            keys[axis] = mask[axis].keys(position);
            tokens_[lane][axis] = axes[axis].coordinate(group[axis], position);
          }
          rows_[lane] = WeightRow(keys);
          if (inside) inside_ |= 1u << lane;
        }
      }
    }
  }

  /// Coordinates in the layout; a lane beyond the layout repeats the last query along the axis.
  const Token& token(int lane) const { return tokens_[lane]; }
  bool inside(int lane) const { return (inside_ >> lane & 1u) != 0; }

  /// The lanes that attend to keys of a run if the last axis is left aside; as bits.
  uint32_t attending(const tile::Segment& segment) const {
    return segment.is_extra() ? inside_ : inside_ & lanes_.attending(0, segment.x1) & lanes_.attending(1, segment.x2);
  }
  /// The positions of a segment that some query attends to; may be empty.
  geometry::Range attended(const tile::Segment& segment) const {
    if (segment.is_extra()) return segment.x3;
    return attending(segment) == 0 ? geometry::Range{} : geometry::intersect(segment.x3, lanes_.keys(2));
  }
  /// lanes[i]: the lanes that attend to key i of a run, as bits.
  void attending_each(const tile::Segment& segment, uint32_t* lanes) const {
    if (segment.is_extra()) {
      std::fill_n(lanes, segment.x3.size(), inside_);
    } else {
      lanes_.attending_run(2, segment.x3, attending(segment), lanes);
    }
  }
  /// The part of a segment that one of attending() attends to; may be empty.
  RowPart part(int lane, const tile::Segment& segment) const { return rows_[lane].part(segment); }

 private:
  tile::LaneTile lanes_;
  std::array<Token, tile::kMaxLanes> tokens_;
  std::array<WeightRow, tile::kMaxLanes> rows_;
  uint32_t inside_ = 0;
};

/// Neighbouring queries along the last axis in a block of packed queries.
struct QueryRun {
  int64_t x1 = 0, x2 = 0;  ///< positions in the dilation group
  geometry::Range x3;
  int64_t first = 0;             ///< row of the block that holds x3.begin
  geometry::Range keys1, keys2;  ///< their windows along the first two axes
};

/// The keys of a query tile, and its halo: every query that attends to one of them.
struct KeyTile {
  geometry::Box keys, queries;
};

}  // namespace nalab::gemm
