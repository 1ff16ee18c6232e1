// Which keys a query sees along one axis, and which queries see a key: the one place that answers.
//
// Definitions: Neighborhood Attention (2204.07143), dilation (2209.15001), causal and per-axis parameters
// (Faster NA, 2403.04690), even windows and stride (Generalized NA, 2504.16922). Everything here is 64-bit integer
// math, constexpr, and free of types of a particular host or device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

namespace nalab::geometry {

/// Half-open range [begin, end) of positions.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;

  constexpr int64_t size() const { return end > begin ? end - begin : 0; }
  constexpr bool empty() const { return end <= begin; }
  constexpr bool contains(int64_t i) const { return begin <= i && i < end; }
  constexpr bool contains(Range other) const { return other.empty() || (begin <= other.begin && other.end <= end); }
  constexpr bool operator==(const Range&) const = default;
};

constexpr Range intersect(Range a, Range b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }

/// Floor of a / b for b > 0 and any a.
constexpr int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
/// Ceiling of a / b for b > 0 and any a.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }

/// Sum of floor((a * i + b) / m) over i in [0, n), for a, b, n >= 0 and m > 0, in a number of steps that grows with the
/// logarithm of m: what lies below a line is counted by exchanging the axes, as in Euclid's algorithm.
constexpr int64_t floor_sum(int64_t n, int64_t m, int64_t a, int64_t b) {
  int64_t sum = 0;
  while (n > 0) {
    sum += n * (n - 1) / 2 * (a / m) + n * (b / m);
    a %= m;
    b %= m;
    const int64_t top = a * n + b;
    n = top / m;
    b = top % m;
    std::swap(a, m);
  }
  return sum;
}

/// The neighborhood mask along one axis inside one dilation group: `length` consecutive positions, no dilation.
/// Requires 1 <= stride <= window <= length.
///
/// The windows of consecutive queries never move left and never leave a gap (their starts differ by at most the stride,
/// which is at most the window), hence every set below is one range.
struct AxisMask {
  int64_t length = 1;
  int64_t window = 1;
  int64_t stride = 1;
  bool causal = false;

  /// Positions attended by the query at position p, 0 <= p < length. Never empty; contains p.
  constexpr Range keys(int64_t p) const {
    const int64_t leader = stride == 1 ? p : leader_of_group(p / stride);  // a division takes longer than all the rest
    if (causal) return {std::max<int64_t>(leader - (window - 1), 0), p + 1};
    const int64_t start = std::clamp<int64_t>(leader - left(), 0, length - window);
    return {start, start + window};
  }

  /// Positions of the queries that attend to the key at position k: the transpose of keys(). Empty if no query does.
  constexpr Range queries(int64_t k) const {
    if (causal) return {k, end_of_starts_up_to(k)};
    // The end of a window exceeds k if its start is at least k - window + 1.
    const int64_t least_start = k - window + 1;
    const int64_t begin =
        least_start <= 0 ? 0 : std::max<int64_t>(0, ceil_div(least_start + left() - stride / 2, stride)) * stride;
    return {std::min(begin, length), end_of_starts_up_to(k)};
  }

  /// Positions attended by at least one query of a non-empty range of queries.
  constexpr Range keys_of_any(Range q) const { return {keys(q.begin).begin, keys(q.end - 1).end}; }
  /// Positions attended by every query of a non-empty range of queries; may be empty.
  constexpr Range keys_of_all(Range q) const { return {keys(q.end - 1).begin, keys(q.begin).end}; }

  /// Positions of the queries that attend to at least one key of a non-empty range of keys.
  constexpr Range queries_of_any(Range k) const { return {queries(k.begin).begin, queries(k.end - 1).end}; }

  /// Number of (query, key) pairs of the mask.
  constexpr int64_t attended_pairs() const {
    if (!causal) return length * window;
    // Sum over p of (p + 1 - start). A stride group j of full size starts at max(j * stride + stride - window, 0), the
    // cut-short last group at length - window.
    const int64_t groups = length / stride;
    const int64_t first_moved = std::min(ceil_div(window - stride, stride), groups);
    const int64_t moved = groups - first_moved;
    const int64_t sum_of_starts =
        stride * (stride * (moved * (first_moved + groups - 1) / 2) + moved * (stride - window)) +
        (length % stride) * (length - window);
    return length * (length + 1) / 2 - sum_of_starts;
  }

  /// Sum of keys(first + i * step).begin over i in [0, count), step >= 1, all positions below length.
  constexpr int64_t sum_of_begins(int64_t first, int64_t step, int64_t count) const {
    // begin = clamp(p div stride * stride + shift, 0, length - window): find where the clamps no longer act.
    const int64_t shift = (causal ? stride - 1 : stride / 2) - (causal ? window - 1 : left());
    const auto positions_below = [&](int64_t p) { return std::clamp<int64_t>(ceil_div(p - first, step), 0, count); };
    const int64_t low = shift > 0 ? 0 : positions_below((-shift / stride + 1) * stride);
    const int64_t high = std::max(low, positions_below(ceil_div(length - window - shift, stride) * stride));
    return stride * floor_sum(high - low, stride, step, first + low * step) + (high - low) * shift +
           (count - high) * (length - window);
  }

  /// Keys to the left of the leader in an unclamped window; an even window leans left by one.
  constexpr int64_t left() const { return window / 2; }

  constexpr bool operator==(const AxisMask&) const = default;

 private:
  /// The query whose window the whole stride group shares.
  constexpr int64_t leader_of_group(int64_t group) const {
    return std::min(group * stride + (causal ? stride - 1 : stride / 2), length - 1);
  }

  /// One past the last query whose window starts at or before k.
  constexpr int64_t end_of_starts_up_to(int64_t k) const {
    const int64_t greatest_leader = k + (causal ? window - 1 : left());
    if (greatest_leader >= length - 1 || (!causal && k >= length - window)) return length;
    const int64_t lead = causal ? stride - 1 : stride / 2;
    return std::clamp<int64_t>((floor_div(greatest_leader - lead, stride) + 1) * stride, 0, length);
  }
};

/// One axis of the token layout with its neighborhood parameters.
/// Requires extent >= 1, dilation >= 1, 1 <= window <= extent div dilation, 1 <= stride <= window.
///
/// Dilation splits the axis into independent groups: coordinate i belongs to group i mod dilation, at position i div
/// dilation, and attends within its group only.
struct Axis {
  int64_t extent = 1;
  int64_t window = 1;
  int64_t stride = 1;
  int64_t dilation = 1;
  bool causal = false;

  /// Number of positions in dilation group g, 0 <= g < dilation.
  constexpr int64_t group_length(int64_t g) const { return ceil_div(extent - g, dilation); }
  /// The mask over the positions of dilation group g.
  constexpr AxisMask group_mask(int64_t g) const { return {group_length(g), window, stride, causal}; }
  constexpr int64_t coordinate(int64_t g, int64_t position) const { return position * dilation + g; }

  /// Whether every query attends to the whole axis.
  constexpr bool covers_everything() const { return window == extent && (!causal || extent == 1); }

  /// Number of (query, key) pairs along this axis, over all dilation groups.
  constexpr int64_t attended_pairs() const {
    // The first extent mod dilation groups are one position longer than the others.
    const int64_t longer = extent % dilation;
    const int64_t pairs = (dilation - longer) * group_mask(dilation - 1).attended_pairs();
    return longer == 0 ? pairs : pairs + longer * group_mask(0).attended_pairs();
  }

  constexpr bool operator==(const Axis&) const = default;
};

}  // namespace nalab::geometry
