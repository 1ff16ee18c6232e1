// The tasks of a backward pass, and in which order they add to dk and dv of a key: it depends on the problem and on the
// lanes of a vector alone.
//
// A task that comes to add to a row of keys waits until all earlier ones that share keys of it are past it. They seldom
// wait long. A task walks over its rows of keys upwards, and the task above it comes first: it is past the rows that
// both need when the other one comes there. Strips side by side need the same rows at the same time: the odd ones
// follow the even ones a row of keys behind.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/kernels/banded/block_shape.h"
#include "core/kernels/banded/strips.h"
#include "core/ordered_tasks.h"

namespace nalab::banded {

/// Strips over blocks of rows: strip after strip, of each block after block, of each all positions of the first axis in
/// turn, and for each of these its rows of keys, those along the middle axis innermost.
struct BackwardTask {
  int64_t number;
  int64_t batch, g1, g2;   ///< g1, g2: dilation groups of the first and the middle axis
  int64_t piece1, piece2;  ///< which piece of these axes
  geometry::Range x1, x2;  ///< its positions; none beyond the end of a short group
  geometry::Range strips;
};

class BackwardTasks {
 public:
  /// part_bytes: what each part of a batch entry takes in memory, for sums to which all queries add.
  BackwardTasks(const Problem& p, const LaneOrder& order, const BlockShape& block, int64_t part_bytes)
      : axes_(p.axes3()), order_(order), block_(block), apart_(are_apart(order)) {
    // Enough for many threads; the more, the less of a row of keys is used again. Strips come first: they share least.
    constexpr int64_t kTasks = 64;
    int64_t tasks = p.batch * groups();
    const auto cut = [&](int64_t length, int64_t least) {
      const int64_t most = geometry::ceil_div(length, least), wanted = geometry::ceil_div(kTasks, tasks);
      const int64_t count = geometry::ceil_div(most, std::max<int64_t>(most / wanted, 1));
      const Pieces pieces(length, geometry::ceil_div(length, count));
      tasks *= pieces.count;
      return pieces;
    };
    const int64_t length1 = axes_[0].group_length(0), length2 = axes_[1].group_length(0);
    // Along one row of keys, only the first strips of a task may share keys with the one before.
    const int64_t reach = geometry::ceil_div(axes_[2].window + axes_[2].stride, order.strip_lanes());
    strips_ = cut(order.strips(), length1 * length2 == 1 ? 2 * reach : 1);
    pieces2_ = cut(length2, block_.positions);
    // A task that goes on with the next position finds rows of keys that it has kept; but those that share keys with it
    // wait for as many positions as the window has.
    const bool goes_on = block_.kept_rows > 1 && (tasks >= kTasks || (pieces2_.count == 1 && apart_));
    pieces1_ = goes_on ? cut(length1, axes_[0].window) : Pieces(length1, 1);
    constexpr int64_t kBytes = 32 << 20;
    const int64_t most = std::min(kTasks / p.batch, kBytes / std::max<int64_t>(part_bytes * p.batch, 1));
    parts_ = std::clamp<int64_t>(most, 1, tasks_of_entry());
  }

  /// They are numbered batch entry by batch entry; dilation groups take turns, since they share no keys.
  int64_t tasks_of_entry() const { return pieces1_.count * pieces2_.count * strips_.count * groups(); }

  BackwardTask at(int64_t number) const {
    BackwardTask task;
    task.number = number;
    const auto take = [&](int64_t count) { return std::exchange(number, number / count) % count; };
    task.g2 = take(axes_[1].dilation);
    task.g1 = take(axes_[0].dilation);
    task.strips = strips_.at(piece_of_strips(take(strips_.count)), order_.strips());
    task.piece2 = pieces2_.count - 1 - take(pieces2_.count);
    task.piece1 = pieces1_.count - 1 - take(pieces1_.count);
    task.batch = number;
    task.x1 = pieces1_.at(task.piece1, axes_[0].group_length(task.g1));
    task.x2 = pieces2_.at(task.piece2, axes_[1].group_length(task.g2));
    return task;
  }

  /// Parts of the sums to which all queries add: each batch entry has as many, and its tasks take them in turn.
  int64_t parts_of_entry() const { return parts_; }
  int64_t part_of(const BackwardTask& task) const { return task.batch * parts_ + number_in_entry(task) % parts_; }
  /// The task that adds to the same part before.
  std::optional<int64_t> before_in_part(const BackwardTask& task) const {
    if (number_in_entry(task) < parts_) return std::nullopt;
    return task.number - parts_;
  }

  /// Tasks count their steps: so many for a block at one position of the first axis, or one for each row of keys.
  int64_t steps_of_block() const { return block_.key_rows(); }

  /// Strips of other pieces that share keys with a strip of a task.
  std::vector<int64_t> neighbours(const BackwardTask& task, int64_t strip) const {
    std::vector<int64_t> strips;
    const int64_t width = order_.strip_lanes(), end = std::min((strip + 1) * width, order_.lanes());
    // Queries that share keys are nearer to each other. Most strips of a long row are done with at this.
    const int64_t reach = 2 * (order_.axis().window + order_.axis().stride);
    const geometry::Range own{task.strips.begin * width + reach, task.strips.end * width - reach};
    for (int64_t lane = strip * width, lanes = 0; lane < end; lane += lanes) {
      LaneOrder::Query query = order_.at(lane);
      const int64_t rest = order_.rest_of_segment(query);
      lanes = std::min(rest, end - lane);
      if (own.begin <= lane && lane + lanes <= own.end && order_.place_in_segment(query) >= reach &&
          rest - lanes >= reach) {
        continue;
      }
      const geometry::AxisMask mask = order_.axis().group_mask(query.group);
      const geometry::Range others = mask.queries_of_any(mask.keys_of_any({query.position, query.position + lanes}));
      // Lanes follow each other within a segment.
      for (query.position = others.begin; query.position < others.end;) {
        const int64_t first = order_.lane_of(query);
        const int64_t count = std::min(order_.rest_of_segment(query), others.end - query.position);
        for (int64_t other = first / width; other <= (first + count - 1) / width; ++other) {
          if (!task.strips.contains(other) && std::ranges::find(strips, other) == strips.end()) strips.push_back(other);
        }
        query.position += count;
      }
    }
    return strips;
  }

 private:
  friend class EarlierTasks;

  /// [0, length) in pieces of one size; the last may be shorter.
  struct Pieces {
    int64_t size = 1, count = 1;

    Pieces() = default;
    Pieces(int64_t length, int64_t piece) : size(piece), count(geometry::ceil_div(length, piece)) {}
    /// Groups of unlike length have as many pieces.
    geometry::Range at(int64_t i, int64_t length) const {
      return {std::min(i * size, length), std::min((i + 1) * size, length)};
    }
  };

  /// Whether strips share no keys: each has whole dilation groups of its heads.
  static bool are_apart(const LaneOrder& order) {
    const int64_t segment = order.rest_of_segment({}), length = order.axis().group_length(0);
    return order.axis().extent % order.axis().dilation == 0 && segment == length && order.strip_lanes() % length == 0;
  }
  int64_t groups() const { return axes_[0].dilation * axes_[1].dilation; }
  int64_t number_in_entry(const BackwardTask& task) const { return task.number - task.batch * tasks_of_entry(); }

  /// Single strips: the even ones, then the odd ones, if they share keys. Pieces of several are like those of the axes.
  int64_t piece_of_strips(int64_t place) const {
    if (strips_.size > 1) return strips_.count - 1 - place;
    const int64_t even = (strips_.count + 1) / 2;
    return apart_ ? place : place < even ? 2 * place : 2 * (place - even) + 1;
  }
  int64_t place_of_strips(int64_t piece) const {
    if (strips_.size > 1) return strips_.count - 1 - piece;
    return apart_ ? piece : piece % 2 == 0 ? piece / 2 : (strips_.count + 1) / 2 + piece / 2;
  }

  std::array<Axis, 3> axes_;
  const LaneOrder& order_;
  BlockShape block_;
  bool apart_;  ///< whether strips share no keys
  Pieces strips_, pieces1_, pieces2_;
  int64_t parts_;
};

/// Those that come before a task and share keys with it.
class EarlierTasks {
 public:
  EarlierTasks(const BackwardTasks& tasks, const BackwardTask& task)
      : tasks_(tasks),
        task_(task),
        mask1_(tasks.axes_[0].group_mask(task.g1)),
        mask2_(tasks.axes_[1].group_mask(task.g2)),
        beside_(row(task.piece1, task.piece2)),
        above_(row(task.piece1, task.piece2 + 1)),
        next_x1_(tasks.pieces1_.at(task.piece1 + 1, mask1_.length)) {}

  /// The strip that comes next.
  void begin_strip(int64_t strip) { neighbours_ = tasks_.neighbours(task_, strip); }

  /// Before the task adds to a row of keys, some tasks must have taken a number of steps: f(task, steps). Those that
  /// add to it earlier still have done so then, since these waited for them.
  template <class F>
  void for_each(int64_t k1, int64_t k2, const F& f) const {
    if (!neighbours_.empty()) ask(beside_, k1, k2, f);
    if (!above_.x2.empty() && mask2_.keys(above_.x2.begin).begin <= k2) {
      ask(above_, k1, k2, f);
    } else if (!next_x1_.empty() && mask1_.keys(next_x1_.begin).begin <= k1) {
      ask(row(task_.piece1 + 1, mask2_.queries(k2).begin / tasks_.pieces2_.size), k1, k2, f);
    }
  }

 private:
  /// All strips of a piece of both axes.
  struct Row {
    int64_t first;  ///< the first task's number
    geometry::Range x1, x2;
    int64_t blocks;
  };

  Row row(int64_t piece1, int64_t piece2) const {
    const int64_t above1 = tasks_.pieces1_.count - 1 - piece1, above2 = tasks_.pieces2_.count - 1 - piece2;
    const int64_t group = task_.g1 * tasks_.axes_[1].dilation + task_.g2;
    const geometry::Range x2 = tasks_.pieces2_.at(piece2, mask2_.length);
    return {task_.batch * tasks_.tasks_of_entry() +
                (above1 * tasks_.pieces2_.count + above2) * tasks_.strips_.count * tasks_.groups() + group,
            tasks_.pieces1_.at(piece1, mask1_.length), x2, tasks_.block_.blocks(x2)};
  }

  template <class F>
  void ask(const Row& row, int64_t k1, int64_t k2, const F& f) const {
    // The last position and block that attend to the row of keys. Most tasks have one of each.
    const int64_t last1 = row.x1.size() == 1 ? row.x1.begin : std::min(mask1_.queries(k1).end, row.x1.end) - 1;
    int64_t block = 0;
    geometry::Range x2 = row.x2;
    if (row.blocks > 1) {
      block = tasks_.block_.block_of(x2, std::min(mask2_.queries(k2).end, x2.end) - 1);
      x2 = tasks_.block_.block(x2, block);
    }
    const geometry::Range keys2 = mask2_.keys_of_any(x2);
    const int64_t key_row = (k1 - mask1_.keys(last1).begin) * keys2.size() + k2 - keys2.begin;
    const int64_t steps = (block * row.x1.size() + last1 - row.x1.begin) * tasks_.steps_of_block() + key_row + 1;
    const auto ask_strip = [&](int64_t strip) {
      const int64_t strips = tasks_.strips_.size, piece = strips == 1 ? strip : strip / strips;
      const int64_t number = row.first + tasks_.place_of_strips(piece) * tasks_.groups();
      const int64_t before = (strip - piece * strips) * row.blocks * row.x1.size() * tasks_.steps_of_block();
      if (number < task_.number) f(number, before + steps);
    };
    // Strips of a task may share keys, and the tasks of other rows have the same strips: past the last one they are
    // past all.
    ask_strip(task_.strips.end - 1);
    for (const int64_t neighbour : neighbours_) ask_strip(neighbour);
  }

  const BackwardTasks& tasks_;
  const BackwardTask& task_;
  const geometry::AxisMask mask1_, mask2_;
  const Row beside_, above_;
  const geometry::Range next_x1_;    ///< of the next piece of the first axis
  std::vector<int64_t> neighbours_;  ///< of the strip at hand, in other tasks
};

/// When a task may add to keys, and what those that come later may know of it.
class Turn {
 public:
  /// progress: of all tasks; null if they run one after the other.
  Turn(const BackwardTasks& tasks, const BackwardTask& task, TaskProgress* progress)
      : tasks_(tasks), task_(task), progress_(progress) {
    if (progress_ != nullptr) earlier_.emplace(tasks, task);
  }
  ~Turn() {
    if (progress_ != nullptr) progress_[task_.number].reach(TaskProgress::kEnd);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  const BackwardTask& task() const { return task_; }
  int64_t part() const { return tasks_.part_of(task_); }

  /// Waits until the part is this task's.
  void wait_for_part() const {
    if (progress_ == nullptr) return;
    if (const auto before = tasks_.before_in_part(task_)) progress_[*before].wait_for(TaskProgress::kEnd);
  }
  void begin_strip(int64_t strip) {
    if (earlier_) earlier_->begin_strip(strip);
  }
  /// Waits until it may add to a row of keys.
  void wait(int64_t k1, int64_t k2) const {
    if (!earlier_) return;
    earlier_->for_each(k1, k2, [&](int64_t number, int64_t steps) {
      progress_[number].wait_for(static_cast<int32_t>(std::min<int64_t>(steps, TaskProgress::kEnd)));
    });
  }
  /// The task is past the n-th row of keys of a block.
  void pass(int64_t n) const {
    if (progress_ == nullptr) return;
    // Whoever waits for a step that is not told waits for the end.
    if (const int64_t step = steps_ + n + 1; step < TaskProgress::kEnd) {
      progress_[task_.number].reach(static_cast<int32_t>(step));
    }
  }
  void end_block() { steps_ += tasks_.steps_of_block(); }

 private:
  const BackwardTasks& tasks_;
  const BackwardTask& task_;
  TaskProgress* progress_;
  int64_t steps_ = 0;
  std::optional<EarlierTasks> earlier_;
};

}  // namespace nalab::banded
