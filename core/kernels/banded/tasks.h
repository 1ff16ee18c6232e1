// The tasks of a forward pass, numbered: a strip over rows of queries in one dilation group of the first and of the
// middle axis.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/geometry/axis.h"
#include "core/problem.h"

namespace nalab::banded {

/// Where the rows of a strip are.
struct BlockPlace {
  int64_t batch;
  int64_t g1, g2;  ///< dilation groups of the first and the middle axis
};

class Tasks {
 public:
  /// piece1, piece2: positions of a task along the first and the middle axis.
  Tasks(const Problem& p, int64_t strips, int64_t piece1, int64_t piece2)
      : axes_(p.axes3()),
        strips_(strips),
        batch_(p.batch),
        piece1_(piece1),
        pieces1_(geometry::ceil_div(axes_[0].group_length(0), piece1)),
        piece2_(piece2),
        pieces2_(geometry::ceil_div(axes_[1].group_length(0), piece2)) {}

  int64_t count() const { return batch_ * axes_[0].dilation * pieces1_ * axes_[1].dilation * pieces2_ * strips_; }

  struct Task {
    BlockPlace place;
    int64_t strip;
    geometry::Range x1, x2;  ///< positions; may be empty
  };
  Task at(int64_t number) const {
    const auto next = [&](int64_t count) {
      const int64_t i = number % count;
      number /= count;
      return i;
    };
    Task task;
    task.strip = next(strips_);
    const int64_t piece2 = next(pieces2_);
    task.place.g2 = next(axes_[1].dilation);
    const int64_t piece1 = next(pieces1_);
    task.place.g1 = next(axes_[0].dilation);
    task.place.batch = number;
    const auto piece = [](int64_t i, int64_t size, int64_t length) -> geometry::Range {
      return {std::min(i * size, length), std::min((i + 1) * size, length)};
    };
    task.x1 = piece(piece1, piece1_, axes_[0].group_length(task.place.g1));
    task.x2 = piece(piece2, piece2_, axes_[1].group_length(task.place.g2));
    return task;
  }

 private:
  std::array<Axis, 3> axes_;
  int64_t strips_, batch_;
  int64_t piece1_, pieces1_, piece2_, pieces2_;
};

}  // namespace nalab::banded
