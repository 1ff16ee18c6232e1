// Blocks: the rows of queries that are computed at a time, and the rows of keys that they need.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/kernels/banded/strips.h"
#include "core/problem.h"

namespace nalab::banded {

/// From one channel of a strip's transposed keys to the next: an odd number of cache lines.
inline int64_t lane_pitch(int64_t keys) { return (geometry::ceil_div(keys, 16) | 1) * 16; }

/// The rows of queries that are computed at a time: neighbours along the middle axis in a dilation group, for all query
/// heads of a kv head.
struct BlockShape {
  static constexpr int64_t kMostPositions = 8;
  int64_t positions;    ///< along the middle axis
  int64_t heads;        ///< query heads of a kv head
  int64_t key_rows1;    ///< rows of keys of a block along the first axis, at most
  int64_t key_rows2;    ///< and along the middle axis
  int64_t key_columns;  ///< keys of a strip in one of them, at most
  int64_t kept_rows;    ///< transposed rows of keys that are kept for the next block: all that a block needs, or 1

  int64_t rows() const { return positions * heads; }
  int64_t key_rows() const { return key_rows1 * key_rows2; }

  /// `elements`: of a cell on lanes.
  BlockShape(const Problem& p, int lanes, Pass pass, int elements = 1) : heads(p.heads / p.heads_kv) {
    const auto axes = p.axes3();
    // Queries and scores of a block stay near the first-level cache; but few rows of queries would make little use of
    // each row of keys; and backward, a row of keys takes part in five products.
    const bool backward = pass == Pass::backward;
    const int64_t kBytes = (backward ? 128 : 40) << 10, kLeast = 6;
    const int64_t dims = geometry::ceil_div(p.head_dim + (backward ? p.head_dim_v : 0), elements);
    const int64_t row_bytes = 4 * lanes * (dims + p.keys_per_query()) * heads;
    positions = std::min(std::clamp(kBytes / row_bytes, std::max<int64_t>(kLeast / heads, 1), kMostPositions),
                         axes[1].group_length(0));
    key_rows1 = axes[0].window;
    key_rows2 = std::min(axes[1].group_length(0), positions + axes[1].stride + axes[1].window);
    key_columns = most_keys(axes[2].window, lanes);
    // Beyond this a kept row comes from further away than its keys.
    constexpr int64_t kKeptBytes = 640 << 10;
    kept_rows = 4 * dims * lane_pitch(lanes + axes[2].window - 1) * key_rows() <= kKeptBytes ? key_rows() : 1;
  }

  /// Rows are cut into blocks of nearly equal height: single rows would be computed at half the rate.
  int64_t blocks(geometry::Range x2) const { return geometry::ceil_div(x2.size(), positions); }
  geometry::Range block(geometry::Range x2, int64_t n) const {
    const int64_t count = blocks(x2);
    return {x2.begin + x2.size() * n / count, x2.begin + x2.size() * (n + 1) / count};
  }
  /// The number of a position's block.
  int64_t block_of(geometry::Range x2, int64_t position) const {
    return ((position - x2.begin + 1) * blocks(x2) - 1) / x2.size();
  }
  template <class Body>
  void for_each_block(geometry::Range x2, const Body& body) const {
    for (int64_t n = 0; n < blocks(x2); ++n) body(block(x2, n));
  }
};

}  // namespace nalab::banded
