// Which keys a query attends to, written out from the text of the contract. Shares no code with core/.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <ostream>
#include <vector>

#include "core/problem.h"

namespace nalab::geometry {

// Found by GoogleTest, which prints the bytes of what it does not know.
inline void PrintTo(const Axis& axis, std::ostream* out) {
  *out << axis.extent << " w" << axis.window << " s" << axis.stride << " d" << axis.dilation << " c" << axis.causal;
}

}  // namespace nalab::geometry

namespace nalab::test {

/// Coordinates that coordinate i of an axis attends to, ascending. Names as in the contract.
inline std::vector<int64_t> attended(const geometry::Axis& axis, int64_t i) {
  const int64_t L = axis.extent, w = axis.window, s = axis.stride, d = axis.dilation;
  const int64_t g = i % d;
  const int64_t p = i / d;
  int64_t n = 0;
  for (int64_t coordinate = g; coordinate < L; coordinate += d) ++n;
  const int64_t left = w / 2;
  const int64_t right = w / 2 + (w % 2) - 1;
  const int64_t f = (p / s) * s;
  int64_t start = 0;
  int64_t end = 0;
  if (axis.causal) {
    const int64_t leader = std::min(f + s - 1, n - 1);
    start = std::max<int64_t>(leader - left - right, 0);
    end = p + 1;
  } else {
    const int64_t leader = std::min(f + s / 2, n - 1);
    start = std::max<int64_t>(leader - left, 0);
    if (leader + right >= n) start -= leader + right + 1 - n;
    end = start + w;
  }
  std::vector<int64_t> keys;
  for (int64_t position = start; position < end; ++position) keys.push_back(position * d + g);
  return keys;
}

/// mask[i][j]: whether coordinate i of an axis attends to coordinate j.
inline std::vector<std::vector<bool>> mask_of(const geometry::Axis& axis) {
  const auto n = static_cast<std::size_t>(axis.extent);
  std::vector<std::vector<bool>> mask(n, std::vector<bool>(n, false));
  for (int64_t i = 0; i < axis.extent; ++i) {
    for (int64_t j : attended(axis, i)) mask.at(static_cast<std::size_t>(i)).at(static_cast<std::size_t>(j)) = true;
  }
  return mask;
}

/// Whether a token of a layout attends to another; both embedded in three axes.
class LayoutMask {
 public:
  explicit LayoutMask(const Problem& problem) : axes_(problem.axes3()) {
    for (const geometry::Axis& axis : axes_) masks_.push_back(mask_of(axis));
  }

  bool attends(const std::array<int64_t, 3>& query, const std::array<int64_t, 3>& key) const {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      if (!masks_[axis][static_cast<std::size_t>(query[axis])][static_cast<std::size_t>(key[axis])]) return false;
    }
    return true;
  }

  /// Whether a query attends to a key whose entry in a table of relative biases has these indices.
  bool attends_at(const std::array<int64_t, 3>& query, const std::array<int64_t, 3>& index) const {
    std::array<int64_t, 3> key;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      key[axis] = query[axis] + (index[axis] - (axes_[axis].window - 1)) * axes_[axis].dilation;
      if (key[axis] < 0 || key[axis] >= axes_[axis].extent) return false;
    }
    return attends(query, key);
  }

 private:
  std::array<geometry::Axis, 3> axes_;
  std::vector<std::vector<std::vector<bool>>> masks_;
};

/// Calls f for every valid axis of an extent: all windows, strides, dilations, causal or not.
template <class F>
void for_every_axis(int64_t extent, F f) {
  for (int64_t d = 1; d <= extent; ++d) {
    for (int64_t w = 1; w <= extent / d; ++w) {
      for (int64_t s = 1; s <= w; ++s) {
        for (bool causal : {false, true}) f(geometry::Axis{extent, w, s, d, causal});
      }
    }
  }
}

}  // namespace nalab::test
