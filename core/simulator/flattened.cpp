// Single-dimensional tiling: tiles of consecutive tokens of the flattened layout ("the curse of multi-dimensionality").
#include <algorithm>

#include "core/simulator/counting.h"

namespace nalab::simulator {

using geometry::Axis;
using geometry::Box;
using geometry::GroupMask;
using geometry::kAxes;
using geometry::Range;
using geometry::TileAxis;

namespace {

/// Row-major order of one dilation group.
struct Flattened {
  GroupMask mask;

  int64_t tokens() const { return mask[0].length * mask[1].length * mask[2].length; }
  int64_t index(int64_t x0, int64_t x1, int64_t x2) const { return (x0 * mask[1].length + x1) * mask[2].length + x2; }

  /// Least box that holds a non-empty range of tokens. Its first and last position along each axis are those of tokens
  /// of the range: an axis that the range wraps around is covered from end to end.
  Box bounding_box(Range tokens) const {
    Box box;
    int64_t first = tokens.begin;
    int64_t last = tokens.end - 1;
    for (int axis = kAxes - 1; axis >= 0; --axis) {
      const int64_t length = mask[axis].length;
      const bool wraps = first / length != last / length;
      box[axis] = wraps ? Range{0, length} : Range{first % length, last % length + 1};
      first /= length;
      last /= length;
    }
    return box;
  }

  /// The queries of a range of tokens as boxes: what is left of the first row and plane, whole ones, and the last.
  std::vector<Box> boxes(Range tokens) const {
    const int64_t row = mask[2].length;
    const int64_t plane = mask[1].length * row;
    std::vector<Box> result;
    for (int64_t begin = tokens.begin; begin < tokens.end;) {
      // As many whole planes as fit, else rows of one plane, else tokens of one row.
      const auto whole = [&](int64_t unit, int64_t within) {
        const int64_t rest = std::min(tokens.end, (begin / within + 1) * within) - begin;
        return begin % unit == 0 ? rest / unit * unit : 0;
      };
      int64_t count = whole(plane, this->tokens());
      if (count == 0) count = whole(row, plane);
      if (count == 0) count = whole(1, row);
      result.push_back(bounding_box({begin, begin + count}));
      begin += count;
    }
    return result;
  }

  /// Ranges of tokens that at least one query of a tile attends to, ascending by their begin; they may overlap.
  std::vector<Range> needed_keys(Range queries, Effort& effort) const {
    std::vector<Range> needed;
    for (const Box& box : boxes(queries)) {
      const Box keys = keys_of_any(mask, box);
      effort.add(keys[0].size() * keys[1].size());
      for (int64_t x0 = keys[0].begin; x0 < keys[0].end; ++x0) {
        for (int64_t x1 = keys[1].begin; x1 < keys[1].end; ++x1) {
          needed.push_back({index(x0, x1, keys[2].begin), index(x0, x1, keys[2].end - 1) + 1});
        }
      }
    }
    std::sort(needed.begin(), needed.end(), [](Range a, Range b) { return a.begin < b.begin; });
    return needed;
  }

  /// Keys that every query of a tile attends to.
  Box keys_of_all(Range queries) const {
    Box keys = bounding_box(queries);
    for (int axis = 0; axis < kAxes; ++axis) keys[axis] = mask[axis].keys_of_all(keys[axis]);
    return keys;
  }
};

bool contains(const Box& outer, const Box& inner) {
  return outer[0].contains(inner[0]) && outer[1].contains(inner[1]) && outer[2].contains(inner[2]);
}

/// Adds the query tiles of one dilation group, `groups` times.
void count_group(const Flattened& layout, int64_t groups, int64_t query_tokens, int64_t kv_tokens, KvTiling tiling,
                 Effort& effort, Simulation& counts) {
  const TileAxis query_tiles{layout.tokens(), query_tokens};
  counts.query_tiles += groups * query_tiles.count();
  for (int64_t i = 0; i < query_tiles.count(); ++i) {
    const Range queries = query_tiles.range(i);
    const Box all = layout.keys_of_all(queries);
    int64_t visited = 0;
    int64_t end = 0;  // of the last visited tile
    for (const Range& needed : layout.needed_keys(queries, effort)) {
      while (end < needed.end) {
        const int64_t first_key = std::max(end, needed.begin);
        const int64_t begin = tiling == KvTiling::dynamic_tiles ? first_key : first_key / kv_tokens * kv_tokens;
        end = std::min(begin + kv_tokens, layout.tokens());
        effort.add(1);
        ++visited;
        if (contains(all, layout.bounding_box({begin, end}))) counts.tiles_full += groups;
        counts.computed_pairs += groups * queries.size() * (end - begin);
      }
    }
    counts.tiles_visited_worst = std::max(counts.tiles_visited_worst, visited);
    counts.tiles_visited += groups * visited;
  }
}

}  // namespace

Simulation count_flattened(const std::array<Axis, kAxes>& axes, int64_t query_tokens, int64_t kv_tokens,
                           KvTiling tiling, Effort& effort) {
  Simulation counts{
      .query_tiles = 0, .tiles_visited_worst = 0, .tiles_visited = 0, .tiles_full = 0, .computed_pairs = 0};
  int64_t tokens = 1;
  for (const Axis& axis : axes) {
    tokens *= axis.extent;
    counts.attended_pairs *= axis.attended_pairs();
  }
  counts.all_pairs = tokens * tokens;
  counts.tiles_total = TileAxis{tokens, kv_tokens}.count();
  for (const GroupKind& k0 : group_kinds(axes[0])) {
    for (const GroupKind& k1 : group_kinds(axes[1])) {
      for (const GroupKind& k2 : group_kinds(axes[2])) {
        count_group(Flattened{{k0.mask, k1.mask, k2.mask}}, k0.count * k1.count * k2.count, query_tokens, kv_tokens,
                    tiling, effort, counts);
      }
    }
  }
  return counts;
}

}  // namespace nalab::simulator
