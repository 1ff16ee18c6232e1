// Strips: queries on the lanes of one vector, consecutive along the last axis, with heads and dilation groups laid end
// to end; and the keys that they attend to in one row of keys.
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>

#include "core/geometry/axis.h"
#include "core/geometry/bias.h"
#include "core/parallel.h"
#include "core/problem.h"
#include "core/tensor/tensor.h"
#include "core/tensor/workspace.h"

namespace nalab::banded {

inline constexpr int kMaxLanes = 16;
/// Window along the last axis, at most: larger ones are for tiles.
inline constexpr int64_t kMaxWindow = 128;

/// Neighbouring lanes of a strip whose windows along the last axis are alike.
struct Run {
  int lane, count;
  bool sliding;  ///< each window begins one key after the one before; otherwise all are the same
  int64_t key;   ///< the first key of the first window, as a number among the strip's keys
  int64_t keys;  ///< of one window
};

/// A place along the last axis: of a query, or of a key.
struct Place {
  int64_t head_kv;
  int64_t x3;  ///< coordinate in the layout
};

/// The order of all lanes of a problem: pieces of a dilation group along the last axis, for all kv heads in turn, so
/// that the channels of a token are used while they are in the cache.
class LaneOrder {
 public:
  /// For strips of at most `width` lanes.
  LaneOrder(const Problem& problem, int width)
      : axis_(problem.axes.back()),
        heads_kv_(problem.heads_kv),
        long_groups_(axis_.extent % axis_.dilation),
        short_{axis_.extent / axis_.dilation},
        long_{short_.length + 1},
        width_(width),
        strip_lanes_(strip_lanes(width)) {}

  int64_t lanes() const { return heads_kv_ * axis_.extent; }
  /// Lanes of a vector; and those that a strip has, but for the last one.
  int width() const { return width_; }
  int strip_lanes() const { return strip_lanes_; }
  int64_t strips() const { return geometry::ceil_div(lanes(), strip_lanes_); }
  const Axis& axis() const { return axis_; }

  /// A lane's query: its dilation group, and its position there.
  struct Query {
    int64_t head_kv = 0, group = 0, position = 0;
  };
  Query at(int64_t lane) const {
    // Groups differ in length by at most one: the longer ones come first.
    const int64_t long_lanes = long_groups_ * long_.length * heads_kv_;
    return lane < long_lanes ? within(long_, lane, 0) : within(short_, lane - long_lanes, long_groups_);
  }
  /// The reverse of at().
  int64_t lane_of(const Query& query) const {
    const Group& group = group_of(query);
    const int64_t begin = group.begin_of(query.position), own_size = group.size_from(begin);
    const int64_t tokens_before = query.group * short_.length + std::min(query.group, long_groups_);
    return (tokens_before + begin) * heads_kv_ + query.head_kv * own_size + query.position - begin;
  }
  /// Lanes from a query to the end of its segment: of its head, group and piece.
  int64_t rest_of_segment(const Query& query) const {
    const Group& group = group_of(query);
    const int64_t begin = group.begin_of(query.position);
    return begin + group.size_from(begin) - query.position;
  }
  /// Lanes from the beginning of its segment to a query.
  int64_t place_in_segment(const Query& query) const {
    return query.position - group_of(query).begin_of(query.position);
  }
  /// Keys of a strip in one row of keys, at most. What arrays of fixed size have room for is more: banded::most_keys().
  int64_t most_keys() const {
    const int64_t segments = most_segments();
    // From one of n lanes to the next a window moves on by a key, or by a stride after as many lanes.
    return std::min(strip_lanes_ + segments * (axis_.window + axis_.stride - 2), segments * longest().length);
  }

 private:
  /// Dilation groups of one length, in pieces of nearly equal size.
  struct Group {
    int64_t length, piece;
    int64_t last;  ///< where the last piece begins
    explicit Group(int64_t tokens)
        : length(tokens),
          piece(geometry::ceil_div(tokens, geometry::ceil_div(tokens, 64))),
          // A rest of less than half a piece goes to the one before: many heads of it would have too many keys.
          last((std::max<int64_t>((tokens + piece / 2) / piece, 1) - 1) * piece) {}

    /// Where the piece of a position begins, and how long a piece is.
    int64_t begin_of(int64_t position) const { return std::min(position / piece * piece, last); }
    int64_t size_from(int64_t begin) const { return begin == last ? length - begin : piece; }
    int64_t least_size() const { return std::min(piece, length - last); }
    bool all_sizes_divide_by(int64_t n) const { return piece % n == 0 && (length - last) % n == 0; }
  };

  const Group& longest() const { return long_groups_ > 0 ? long_ : short_; }
  /// Segments of a strip, at most.
  int64_t most_segments() const {
    const int64_t least = short_.least_size();
    const bool alike = long_groups_ == 0 && least == short_.piece;
    if (alike && strip_lanes_ % least == 0) return strip_lanes_ / least;
    const bool begin_strips =
        short_.all_sizes_divide_by(strip_lanes_) && (long_groups_ == 0 || long_.all_sizes_divide_by(strip_lanes_));
    // Whole ones between the first and the last, of which a lane may be all that is there.
    return begin_strips || strip_lanes_ == 1 ? 1 : (strip_lanes_ - 2) / least + 2;
  }

  /// Strips of whole segments share no keys, and have fewer runs than those that cut segments: worth one lane in eight.
  int strip_lanes(int width) const {
    const int64_t segment = short_.size_from(0);
    const auto whole = static_cast<int>(segment == short_.length && long_groups_ == 0 ? width / segment * segment : 0);
    return 8 * whole >= 7 * width ? whole : width;
  }

  const Group& group_of(const Query& query) const { return query.group < long_groups_ ? long_ : short_; }

  Query within(const Group& group, int64_t lane, int64_t first_group) const {
    const int64_t group_lanes = group.length * heads_kv_, number = group_lanes > lane ? 0 : lane / group_lanes;
    lane -= number * group_lanes;
    const int64_t begin = std::min(lane / (group.piece * heads_kv_) * group.piece, group.last);
    lane -= begin * heads_kv_;
    const int64_t own_size = group.size_from(begin), head = lane / own_size;
    return {head, first_group + number, begin + lane - head * own_size};
  }

  Axis axis_;
  int64_t heads_kv_;
  int64_t long_groups_;  ///< groups that are longer by one token
  Group short_, long_;
  int width_, strip_lanes_;
};

/// Keys of a strip in one row of keys, at most, of any problem. Segments (a head, a group, a piece) are at least as
/// long as the window or as half a piece, so that there are few of them in a strip.
inline int64_t most_keys(int64_t window, int width) { return 4 * width + 3 * window; }

/// The queries of one strip and their keys.
class Strip {
 public:
  /// `number`: the strip begins with lane number * width.
  Strip(const LaneOrder& order, int64_t number) : width_(order.width()) {
    const int64_t first = number * order.strip_lanes();
    const int64_t all = std::min<int64_t>(order.strip_lanes(), order.lanes() - first);
    while (lanes_ < all) {
      const LaneOrder::Query query = order.at(first + lanes_);
      add_segment(order.axis(), query, std::min(all - lanes_, order.rest_of_segment(query)));
    }
    const int last = std::max(lanes_ - 1, 0);
    for (int lane = lanes_; lane < width_; ++lane) {
      index_[lane] = index_[last];
      count_[lane] = count_[last];
      offset_[lane] = offset_[last];
      query_[lane] = query_[last];
    }
    in_order_ = in_order_ && lanes_ == width_;
  }

  /// Queries; further lanes repeat the last one.
  int lanes() const { return lanes_; }
  /// Keys that some lane attends to, in one row of keys.
  int64_t keys() const { return keys_; }
  const Place& query(int lane) const { return query_[lane]; }
  const Place& key(int64_t number) const { return key_[number]; }
  /// The first key of each lane's window, and how many it has.
  const int32_t* index() const { return index_.data(); }
  const int32_t* count() const { return count_.data(); }
  /// The first key's position relative to the query's.
  int64_t offset(int lane) const { return offset_[lane]; }
  /// Whether lane i's window begins with key i.
  bool in_order() const { return in_order_; }
  /// Whether every window has all its keys: a causal axis hides some.
  bool full() const { return full_; }
  int runs() const { return runs_; }
  const Run& run(int i) const { return run_[i]; }

 private:
  /// Lanes of queries that follow each other in a dilation group, and the keys of all of them.
  void add_segment(const Axis& axis, const LaneOrder::Query& first, int64_t lanes) {
    const geometry::AxisMask mask = axis.group_mask(first.group);
    const int64_t first_key = keys_, begin = mask.keys(first.position).begin;
    assert(keys_ + mask.keys(first.position + lanes - 1).end - begin <= most_keys(axis.window, width_));
    for (int64_t i = 0; i < lanes; ++i, ++lanes_) {
      const int64_t position = first.position + i;
      const geometry::Range keys = mask.keys(position);
      const int64_t index = first_key + keys.begin - begin;
      index_[lanes_] = static_cast<int32_t>(index);
      count_[lanes_] = static_cast<int32_t>(keys.size());
      offset_[lanes_] = keys.begin - position;
      query_[lanes_] = {first.head_kv, axis.coordinate(first.group, position)};
      in_order_ = in_order_ && index == lanes_;
      full_ = full_ && keys.size() == axis.window;
      add_to_runs(i > 0, index, keys.size(), axis.window);
      keys_ = first_key + keys.end - begin;
    }
    for (int64_t key = first_key, x3 = axis.coordinate(first.group, begin); key < keys_; ++key, x3 += axis.dilation) {
      key_[key] = {first.head_kv, x3};
    }
  }

  /// A lane joins the run of the one before, if it `goes_on` from it, or begins a run.
  void add_to_runs(bool goes_on, int64_t first_key, int64_t keys, int64_t window) {
    if (goes_on && keys == window && run_[runs_ - 1].keys == window) {
      Run& run = run_[runs_ - 1];
      const int64_t last = run.key + (run.sliding ? run.count - 1 : 0);
      const bool same = first_key == last, next = first_key == last + 1;
      if (run.count == 1 && next) run.sliding = true;
      if (run.sliding ? next : same) {
        ++run.count;
        return;
      }
      if (run.sliding && same) {
        // The window of the last one that slides is that of all queries up to the border: it goes with them.
        --run.count;
        run.sliding = run.count > 1;
        run_[runs_++] = {lanes_ - 1, 2, false, first_key, keys};
        return;
      }
    }
    run_[runs_++] = {lanes_, 1, false, first_key, keys};
  }

  int width_;
  int lanes_ = 0, runs_ = 0;
  int64_t keys_ = 0;
  bool in_order_ = true, full_ = true;
  alignas(64) std::array<int32_t, kMaxLanes> index_{}, count_{};
  std::array<int64_t, kMaxLanes> offset_{};  ///< of a lane's first key from its query, in positions
  std::array<Place, kMaxLanes> query_{};
  std::array<Run, kMaxLanes> run_;
  std::array<Place, 4 * kMaxLanes + 3 * kMaxWindow> key_;
};

/// The biases of the columns of all strips, as vectors of lanes: a call makes them once.
class StripBiases {
 public:
  StripBiases(const Problem& p, const LaneOrder& order, WorkspaceCutter& cutter)
      : table_(p.axes3()),
        heads_(p.heads / p.heads_kv),
        window_(p.axes.back().window),
        width_(order.width()),
        strips_(order.strips()) {
    if (p.relative_bias) data_ = cutter.take<float>(strips_ * of_strip());
  }

  /// [window][width] for a row of keys at offsets (o1, o2) from the queries, of one of the query heads of a kv head.
  const float* of(int64_t strip, int64_t head, int64_t o1, int64_t o2) const {
    return data_ + strip * of_strip() + in_strip(head, o1, o2);
  }
  /// Where that is among the floats of a strip.
  int64_t in_strip(int64_t head, int64_t o1, int64_t o2) const {
    return head * of_head() + row(o1 + table_.extents()[0] / 2, o2 + table_.extents()[1] / 2);
  }
  /// Floats of a strip.
  int64_t of_strip() const { return heads_ * of_head(); }

  /// Adds the floats of a strip, those of its lanes, to the entries of tables: table_of(query head).
  template <class TableOf>
  void add_to_tables(const Strip& strip, const float* floats, const TableOf& table_of) const {
    const auto& [n1, n2, n3] = table_.extents();
    for (int64_t h = 0; h < heads_; ++h) {
      for (int lane = 0; lane < strip.lanes(); ++lane) {
        double* const table = table_of(strip.query(lane).head_kv * heads_ + h) + strip.offset(lane) + n3 / 2;
        const float* const own = floats + h * of_head() + lane;
        for (int64_t i = 0; i < n1 * n2; ++i) {
          const float* const row = own + i * window_ * width_;
          for (int64_t j = 0; j < strip.count()[lane]; ++j) table[i * n3 + j] += static_cast<double>(row[j * width_]);
        }
      }
    }
  }

  /// Makes them. Nothing to do without a bias.
  void make(const ConstTensorView& rpb, const LaneOrder& order, Workers& workers) const {
    if (data_ == nullptr) return;
    const TokenView<const float> view = rpb.as<float>();
    const auto& [n1, n2, n3] = table_.extents();
    workers.for_each(strips_, [&, n1 = n1, n2 = n2, n3 = n3](int64_t number, int) {
      const Strip strip(order, number);
      for (int64_t h = 0; h < heads_; ++h) {
        for (int64_t i = 0; i < n1 * n2; ++i) {
          float* const target = data_ + number * of_strip() + h * of_head() + row(i / n2, i % n2);
          for (int lane = 0; lane < width_; ++lane) {
            const int64_t head = strip.query(lane).head_kv * heads_ + h;
            for (int64_t j = 0; j < window_; ++j) {
              const int64_t i3 = strip.offset(lane) + j + n3 / 2;
              // Columns that a causal axis hides may lie beyond the table.
              target[j * width_ + lane] = i3 < n3 ? *view.row(head, i / n2, i % n2, i3, 0) : 0.0f;
            }
          }
        }
      }
    });
  }

 private:
  int64_t row(int64_t i1, int64_t i2) const { return (i1 * table_.extents()[1] + i2) * window_ * width_; }
  int64_t of_head() const { return row(table_.extents()[0], 0); }

  geometry::BiasTable table_;
  int64_t heads_, window_;
  int width_;
  int64_t strips_;
  float* data_ = nullptr;  ///< [strips][heads of a kv head][offsets][offsets][window][width]
};

}  // namespace nalab::banded
