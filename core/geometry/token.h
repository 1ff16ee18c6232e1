// Tokens of a layout by their coordinates.
#pragma once

#include <array>
#include <cstdint>

namespace nalab::geometry {

/// Coordinates of a token in the layout embedded in three axes, or its positions in a dilation group.
using Token = std::array<int64_t, 3>;

/// The token at a row-major index of a layout.
constexpr Token token_at(const std::array<int64_t, 3>& layout, int64_t index) {
  const int64_t x3 = index % layout[2];
  const int64_t rest = index / layout[2];
  return {rest / layout[1], rest % layout[1], x3};
}

}  // namespace nalab::geometry
