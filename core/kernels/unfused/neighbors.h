// The neighbors of a token, by coordinates and by offsets in memory: what the unfused variants share and what does not
// depend on the instruction set.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/geometry/axis.h"
#include "core/geometry/token.h"
#include "core/tensor/tensor.h"

namespace nalab::unfused {

using geometry::Token;

/// The coordinates that one query coordinate attends to: first, first + step, ... of `count`.
struct Coordinates {
  int64_t first, step, count;
};

inline Coordinates key_coordinates(const geometry::Axis& axis, int64_t query) {
  const int64_t group = query % axis.dilation;
  const geometry::Range keys = axis.group_mask(group).keys(query / axis.dilation);
  return {axis.coordinate(group, keys.begin), axis.dilation, keys.size()};
}

/// The coordinates that attend to one key coordinate: the transpose of key_coordinates.
inline Coordinates query_coordinates(const geometry::Axis& axis, int64_t key) {
  const int64_t group = key % axis.dilation;
  const geometry::Range queries = axis.group_mask(group).queries(key / axis.dilation);
  return {axis.coordinate(group, queries.begin), axis.dilation, queries.size()};
}

/// Number of tokens of the layout that a token attends to; extra tokens not counted.
inline int64_t key_count(const std::array<geometry::Axis, 3>& axes, const Token& query) {
  int64_t count = 1;
  for (int axis = 0; axis < 3; ++axis) count *= key_coordinates(axes[axis], query[axis]).count;
  return count;
}

/// Writes the offsets in elements of the tokens at the product of coordinates, in row-major order, within one batch
/// entry. Returns their number.
inline int64_t token_offsets(const Coordinates& x1, const Coordinates& x2, const Coordinates& x3,
                             const TokenStrides& strides, int64_t* offsets) {
  int64_t n = 0;
  for (int64_t i = 0; i < x1.count; ++i) {
    for (int64_t j = 0; j < x2.count; ++j) {
      const int64_t start = (x1.first + i * x1.step) * strides.layout[0] +
                            (x2.first + j * x2.step) * strides.layout[1] + x3.first * strides.layout[2];
      for (int64_t k = 0; k < x3.count; ++k) offsets[n++] = start + k * x3.step * strides.layout[2];
    }
  }
  return n;
}

/// token_offsets of the tokens that a query attends to.
inline int64_t key_offsets(const std::array<geometry::Axis, 3>& axes, const Token& query, const TokenStrides& strides,
                           int64_t* offsets) {
  return token_offsets(key_coordinates(axes[0], query[0]), key_coordinates(axes[1], query[1]),
                       key_coordinates(axes[2], query[2]), strides, offsets);
}

/// token_offsets of the tokens that attend to a key.
inline int64_t query_offsets(const std::array<geometry::Axis, 3>& axes, const Token& key, const TokenStrides& strides,
                             int64_t* offsets) {
  return token_offsets(query_coordinates(axes[0], key[0]), query_coordinates(axes[1], key[1]),
                       query_coordinates(axes[2], key[2]), strides, offsets);
}

/// The most coordinates that attend to one key coordinate: at the edges more than the window.
inline int64_t most_queries(const geometry::Axis& axis) {
  int64_t most = 0;
  // Groups have at most two lengths: that of the first and that of the last.
  for (const int64_t group : {int64_t{0}, axis.dilation - 1}) {
    const geometry::AxisMask mask = axis.group_mask(group);
    for (int64_t key = 0; key < mask.length; ++key) most = std::max(most, mask.queries(key).size());
  }
  return most;
}

}  // namespace nalab::unfused
