// Chunks of queries for sums to which many queries add: of the chunks along an axis, each shares keys with its
// neighbours alone. So all with an even number may add at the same time, and then all with an odd one: without waiting
// for each other, and a key's sum is taken in an order that depends on the problem alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/kernels/banded/strips.h"

namespace nalab::banded {

/// Chunks of [0, length), such that chunks i and i + 2 share no key.
class Chunks {
 public:
  static constexpr int64_t kMost = 128;

  /// One chunk.
  explicit Chunks(int64_t length = 0) { begin_[1] = length; }
  /// Of `size` each, or longer where need be. free_from(end): the least number from which on no query shares a key with
  /// those before `end`; it is asked for growing ends.
  template <class FreeFrom>
  Chunks(int64_t length, int64_t size, FreeFrom free_from) : Chunks(length) {
    size = std::max(size, geometry::ceil_div(length, kMost));
    int64_t count = 0, free = 0;
    bool apart = true;
    for (int64_t begin = 0; begin < length; ++count) {
      begin_[count] = begin;
      const int64_t end = std::min(std::max(begin + size, free), length);
      free = end < length ? free_from(end) : length;
      apart = apart && free == end;
      begin = end;
    }
    // Two that share keys would only follow each other.
    count_ = count == 2 && !apart ? 1 : count;
    colours_ = count_ == 1 || apart ? 1 : 2;
    begin_[count_] = length;
  }

  int64_t count() const { return count_; }
  /// Chunks of one colour share no keys.
  int colours() const { return colours_; }
  int64_t count(int colour) const { return colour < colours_ ? (count_ - colour + colours_ - 1) / colours_ : 0; }
  /// The i-th chunk of a colour; empty beyond the last one.
  geometry::Range of(int colour, int64_t i) const {
    return colour < colours_ ? at(i * colours_ + colour) : geometry::Range{};
  }
  geometry::Range at(int64_t i) const {
    if (i >= count_) return {};
    return {begin_[i], i + 1 < count_ ? begin_[i + 1] : begin_[count_]};
  }

 private:
  int64_t count_ = 1;
  int colours_ = 1;
  std::array<int64_t, kMost + 1> begin_{};
};

/// The least position from which on no query shares a key with those before `end`.
inline int64_t free_from(const geometry::AxisMask& mask, int64_t end) {
  return mask.queries(mask.keys(end - 1).end - 1).end;
}

/// The same for strips, in the order of lanes.
class FreeStrips {
 public:
  explicit FreeStrips(const LaneOrder& order) : order_(order) {}

  /// Of growing numbers of strips.
  int64_t operator()(int64_t end) {
    const int64_t lanes = std::min(end * order_.strip_lanes(), order_.lanes());
    while (segment_ < lanes) {
      const LaneOrder::Query first = order_.at(segment_);
      const int64_t last = segment_ + order_.rest_of_segment(first) - 1;
      const int64_t part = std::min(last, lanes - 1);
      free_ = std::max(free_, free_after(first, first.position + part - segment_));
      // A segment that goes on is looked at again.
      if (part < last) break;
      segment_ = last + 1;
    }
    return std::max(end, geometry::ceil_div(free_, order_.strip_lanes()));
  }

 private:
  /// The lane after the last one that shares a key with a query and those before it in its group and head.
  int64_t free_after(LaneOrder::Query query, int64_t position) const {
    query.position = free_from(order_.axis().group_mask(query.group), position + 1) - 1;
    return order_.lane_of(query) + 1;
  }

  const LaneOrder& order_;
  int64_t segment_ = 0;  ///< the first lane of the segments that are not taken into account yet
  int64_t free_ = 0;
};

/// The tasks of a backward call, in phases: those of one phase share no key, unless one item runs them in turn.
class BackwardTasks {
 public:
  /// part_bytes: what each part of a batch entry takes in memory, for sums to which all queries add.
  BackwardTasks(const Problem& p, const LaneOrder& order, int64_t block_positions, int64_t part_bytes)
      : axes_(p.axes3()), batch_(p.batch), groups_(axes_[0].dilation * axes_[1].dilation) {
    // Enough for many threads in each phase. Strips come first: they share the least work.
    constexpr int64_t kTasks = 64;
    int64_t tasks = batch_ * groups_;
    const auto wanted = [&] { return 2 * geometry::ceil_div(kTasks, tasks); };
    const int64_t strips = order.strips();
    if (tasks < kTasks) {
      strips_ = Chunks(strips, geometry::ceil_div(strips, wanted()), FreeStrips(order));
      tasks *= strips_.count(0);
    } else {
      strips_ = Chunks(strips);
    }
    for (const int axis : {1, 0}) {
      const auto along = [&](int64_t group) {
        const geometry::AxisMask mask = axes_[axis].group_mask(group);
        if (tasks >= kTasks) return Chunks(mask.length);
        // At least as long as a block, and alike.
        const int64_t most = geometry::ceil_div(mask.length, axis == 1 ? block_positions : 1);
        return Chunks(mask.length, geometry::ceil_div(mask.length, std::min(most, wanted())),
                      [&](int64_t end) { return free_from(mask, end); });
      };
      longer_[axis] = along(0);
      shorter_[axis] = along(axes_[axis].dilation - 1);
      tasks *= count(axis, 0);
    }
    // A part is that of one item in each phase.
    constexpr int64_t kBytes = 32 << 20;
    const int64_t most = std::min(kTasks / batch_, kBytes / std::max<int64_t>(part_bytes * batch_, 1));
    parts_ = 1;
    for (int phase = 0; phase < phases(); ++phase) parts_ = std::max(parts_, std::min(most, tasks_of(phase)));
  }

  int phases() const { return colours(0) * colours(1) * strips_.colours(); }
  /// They are numbered batch entry by batch entry.
  int64_t items(int phase) const { return batch_ * items_of_entry(phase); }
  int64_t items_of_entry(int phase) const { return std::min(parts_, tasks_of(phase)); }
  /// Parts of the sums to which all queries add: each batch entry has as many.
  int64_t parts() const { return batch_ * parts_; }

  struct Task {
    int64_t batch, g1, g2;
    geometry::Range x1, x2, strips;
  };
  /// Calls f(task, part) for the tasks of an item, in order.
  template <class F>
  void for_each(int phase, int64_t item, const F& f) const {
    const int64_t tasks = tasks_of(phase), parts = items_of_entry(phase);
    const int64_t batch = item / parts, part = item % parts;
    for (int64_t number = tasks * part / parts; number < tasks * (part + 1) / parts; ++number) {
      const Task task = at(phase, batch, number);
      if (!task.x1.empty() && !task.x2.empty()) f(task, batch * parts_ + part);
    }
  }

 private:
  int colours(int axis) const { return std::max(longer_[axis].colours(), shorter_[axis].colours()); }
  int64_t count(int axis, int colour) const {
    return std::max(longer_[axis].count(colour), shorter_[axis].count(colour));
  }
  /// Groups of unlike length may have unlike chunks.
  geometry::Range range(int axis, int64_t group, int colour, int64_t i) const {
    const bool longer = axes_[axis].group_length(group) == axes_[axis].group_length(0);
    return (longer ? longer_ : shorter_)[axis].of(colour, i);
  }

  struct Colours {
    int x1, x2, strips;
  };
  Colours colours_of(int phase) const {
    return {phase / strips_.colours() / colours(1), phase / strips_.colours() % colours(1), phase % strips_.colours()};
  }
  /// Of one batch entry.
  int64_t tasks_of(int phase) const {
    const Colours c = colours_of(phase);
    return groups_ * count(0, c.x1) * count(1, c.x2) * strips_.count(c.strips);
  }
  Task at(int phase, int64_t batch, int64_t number) const {
    const Colours c = colours_of(phase);
    const auto take = [&](int64_t count) {
      const int64_t i = number % count;
      number /= count;
      return i;
    };
    Task task;
    task.batch = batch;
    task.strips = strips_.of(c.strips, take(strips_.count(c.strips)));
    const int64_t i2 = take(count(1, c.x2));
    task.g2 = take(axes_[1].dilation);
    const int64_t i1 = take(count(0, c.x1));
    task.g1 = number;
    task.x2 = range(1, task.g2, c.x2, i2);
    task.x1 = range(0, task.g1, c.x1, i1);
    return task;
  }

  std::array<Axis, 3> axes_;
  int64_t batch_, groups_;
  int64_t parts_;
  Chunks strips_;
  std::array<Chunks, 2> longer_, shorter_;  ///< of the first two axes, for dilation groups of either length
};

}  // namespace nalab::banded
