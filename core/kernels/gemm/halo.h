// Queries of a tile, and the part of their haloed key tile that each of them attends to; and the inverse.
#pragma once

#include <algorithm>
#include <array>
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
    lanes_.place(mask, box, shape, {1, 1, 1});
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

  /// The lanes that attend to keys of a run, but for where they end along the last axis; as bits.
  uint32_t attending(const Run& run) const {
    return run.extra ? inside_ : inside_ & lanes_.attending(0, run.x1) & lanes_.attending(1, run.x2);
  }
  /// The positions of a run that some query attends to; may be empty.
  geometry::Range attended(const Run& run) const {
    if (run.extra) return run.x3;
    return attending(run) == 0 ? geometry::Range{} : geometry::intersect(run.x3, lanes_.keys(2));
  }
  /// lanes[i]: the lanes that attend to key i of a run, as bits.
  void attending_each(const Run& run, uint32_t* lanes) const {
    if (run.extra) {
      std::fill_n(lanes, run.x3.size(), inside_);
    } else {
      lanes_.attending_run(2, run.x3, attending(run), lanes);
    }
  }
  /// The part of a run that one of attending() attends to; may be empty.
  RowPart part(int lane, const Run& run) const { return rows_[lane].part(run); }

 private:
  fused::LaneTile lanes_;
  std::array<Token, fused::kMaxLanes> tokens_;
  std::array<WeightRow, fused::kMaxLanes> rows_;
  uint32_t inside_ = 0;
};

/// Neighbouring queries along the last axis in a block of packed queries.
struct QueryRun {
  int64_t x1 = 0, x2 = 0;  ///< positions in the dilation group
  geometry::Range x3;
  int64_t first = 0;             ///< row of the block that holds x3.begin
  geometry::Range keys1, keys2;  ///< their windows along the first two axes
};

/// The keys of a micro tile, and its halo: every query that attends to one of them.
struct KeyTile {
  geometry::Box keys, queries;
};

}  // namespace nalab::gemm
