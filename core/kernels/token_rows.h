// Tokens, their keys and their rows in memory: what the unfused variants share and what does not depend on the
// instruction set.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/geometry/axis.h"
#include "core/tensor/buffer.h"
#include "core/tensor/tensor.h"

namespace nalab {

/// Coordinates of a token in the embedded layout.
using Token = std::array<int64_t, 3>;

inline Token token_at(const std::array<int64_t, 3>& layout, int64_t index) {
  const int64_t x3 = index % layout[2];
  const int64_t rest = index / layout[2];
  return {rest / layout[1], rest % layout[1], x3};
}

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
  // Groups are of at most two lengths: that of the first and that of the last.
  for (const int64_t group : {int64_t{0}, axis.dilation - 1}) {
    const geometry::AxisMask mask = axis.group_mask(group);
    for (int64_t key = 0; key < mask.length; ++key) most = std::max(most, mask.queries(key).size());
  }
  return most;
}

/// Rounds a row of floats to the tensor's element type and stores it.
inline void store_row(const TensorView& tensor, int64_t batch, const Token& token, int64_t head, const float* values) {
  with_element_type(tensor.type, [&](auto element) {
    using T = decltype(element);
    T* target = tensor.as<T>().row(batch, token[0], token[1], token[2], head);
    for (int64_t c = 0; c < tensor.shape.dim; ++c) target[c] = from_float<T>(values[c]);
  });
}

/// A factor of scores as float32, held within the range of float32: so 0 times it is 0, and other products overflow to
/// infinity by themselves.
inline float factor_as_float(double factor) {
  constexpr double kGreatest = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(factor, -kGreatest, kGreatest));
}

/// Cuts a workspace into 64-byte aligned parts. With no memory behind it, it only adds up the size.
class WorkspaceCutter {
 public:
  explicit WorkspaceCutter(std::byte* memory) : memory_(memory) {}

  template <class T>
  T* take(int64_t count) {
    std::byte* const part = memory_ == nullptr ? nullptr : memory_ + size_;
    const int64_t alignment = static_cast<int64_t>(kAlignment);
    size_ += (count * static_cast<int64_t>(sizeof(T)) + alignment - 1) / alignment * alignment;
    return reinterpret_cast<T*>(part);
  }
  int64_t size() const { return size_; }

 private:
  std::byte* memory_;
  int64_t size_ = 0;
};

}  // namespace nalab
