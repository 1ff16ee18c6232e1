// Where the bias of a (query, key) pair stands in a table of relative positional biases: the one place that answers.
//
// Neighborhood Attention (2204.07143, section 3.1): a bias for each relative offset of a key, per query head.
#pragma once

#include <array>
#include <cstdint>

#include "tiles.h"
#include "token.h"

namespace nalab::geometry {

/// The table of one head: 2 window - 1 offsets along every axis, row-major. A window always contains its query, so no
/// attended key lies outside of the table, whatever the stride and the dilation; a causal axis leaves its upper half
/// unused.
class BiasTable {
 public:
  constexpr explicit BiasTable(const std::array<Axis, kAxes>& axes) {
    for (int axis = 0; axis < kAxes; ++axis) extents_[axis] = 2 * axes[axis].window - 1;
  }

  constexpr const std::array<int64_t, kAxes>& extents() const { return extents_; }
  /// Entries of one head.
  constexpr int64_t size() const { return extents_[0] * extents_[1] * extents_[2]; }

  /// The entry of a query and a key that it attends to, both as positions in their dilation group. From one key to the
  /// next along the last axis it grows by one.
  constexpr int64_t entry(const Token& query, const Token& key) const { return place(key) - place(query) + size() / 2; }
  /// What a position adds to the entries of a key, and takes from those of a query.
  constexpr int64_t place(const Token& position) const {
    return (position[0] * extents_[1] + position[1]) * extents_[2] + position[2];
  }

 private:
  std::array<int64_t, kAxes> extents_{};
};

}  // namespace nalab::geometry
