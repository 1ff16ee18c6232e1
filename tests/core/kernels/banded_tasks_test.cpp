// The tasks of banded's backward pass: what each waits for, played through without threads.
#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <map>
#include <set>
#include <vector>

#include "core/kernels/banded/backward_tasks.h"
#include "tests/core/definition.h"
#include "tests/core/kernels/banded_problems.h"
#include "tests/core/kernels/problems.h"

namespace nalab {
namespace {

using banded::BackwardTask;
using banded::BackwardTasks;
using banded::BlockShape;
using banded::EarlierTasks;
using banded::LaneOrder;
using banded::Strip;

struct Place {
  int64_t batch, x1, x2, head, x3;
  auto operator<=>(const Place&) const = default;
};

/// A row of keys that a task adds to.
struct Visit {
  int64_t strip, k1, k2;
  int64_t steps;  ///< that the task has taken then
};

/// The tasks of a problem for vectors of some lanes and blocks of some height.
class Play {
 public:
  Play(const Problem& problem, int width, int64_t positions, bool keeps_rows, int64_t part_bytes = 1)
      : axes_(problem.axes3()),
        order_(problem, width),
        block_(shape(problem, width, positions, keeps_rows)),
        tasks_(problem, order_, block_, part_bytes),
        count_(problem.batch * tasks_.tasks_of_entry()) {}

  const BackwardTasks& tasks() const { return tasks_; }
  int64_t count() const { return count_; }

  /// The rows of keys of a task, as backward_task-inl.h walks over them.
  std::vector<Visit> visits(const BackwardTask& task) const {
    std::vector<Visit> all;
    const auto mask1 = axes_[0].group_mask(task.g1), mask2 = axes_[1].group_mask(task.g2);
    int64_t begun = 0;
    for (int64_t strip = task.strips.begin; strip < task.strips.end; ++strip) {
      block_.for_each_block(task.x2, [&](geometry::Range x2) {
        for (int64_t x1 = task.x1.begin; x1 < task.x1.end; ++x1, begun += tasks_.steps_of_block()) {
          int64_t n = 0;
          const geometry::Range keys1 = mask1.keys(x1), keys2 = mask2.keys_of_any(x2);
          for (int64_t k1 = keys1.begin; k1 < keys1.end; ++k1) {
            for (int64_t k2 = keys2.begin; k2 < keys2.end; ++k2, ++n) {
              bool attends = false;
              for (int64_t p = x2.begin; p < x2.end; ++p) attends = attends || mask2.keys(p).contains(k2);
              if (attends) all.push_back({strip, k1, k2, begun + n + 1});
            }
          }
          EXPECT_LE(n, tasks_.steps_of_block());
        }
      });
    }
    return all;
  }

  /// The keys of a strip in a row of keys.
  void for_each_key(const BackwardTask& task, const Visit& visit, const auto& body) const {
    const int64_t x1 = axes_[0].coordinate(task.g1, visit.k1), x2 = axes_[1].coordinate(task.g2, visit.k2);
    const Strip strip(order_, visit.strip);
    for (int lane = 0; lane < strip.lanes(); ++lane) {
      const auto& [head, x3] = strip.query(lane);
      for (const int64_t key : test::attended(axes_[2], x3)) body(Place{task.batch, x1, x2, head, key});
    }
  }

  /// The queries of a task.
  void for_each_query(const BackwardTask& task, const auto& body) const {
    for (int64_t number = task.strips.begin; number < task.strips.end; ++number) {
      const Strip strip(order_, number);
      for (int lane = 0; lane < strip.lanes(); ++lane) {
        const auto& [head, x3] = strip.query(lane);
        for (int64_t p1 = task.x1.begin; p1 < task.x1.end; ++p1) {
          for (int64_t p2 = task.x2.begin; p2 < task.x2.end; ++p2) {
            body(Place{task.batch, axes_[0].coordinate(task.g1, p1), axes_[1].coordinate(task.g2, p2), head, x3});
          }
        }
      }
    }
  }

  /// Runs all tasks on some runners, of which goes_on(runner) go on in each round: by a row of keys, if those that
  /// they follow let them. Calls add(task, visit). Returns the number of rounds.
  int64_t run(int runners, const auto& goes_on, const auto& add) const {
    struct Runner {
      BackwardTask task{};
      std::vector<Visit> visits{};
      std::size_t next = 0;
      bool busy = false;
    };
    std::vector<Runner> all(static_cast<std::size_t>(runners));
    std::vector<int64_t> progress(static_cast<std::size_t>(count_));
    int64_t claimed = 0, ended = 0, rounds = 0;
    for (int64_t idle = 0; ended < count_; ++rounds) {
      bool moved = false;
      for (int r = 0; r < runners; ++r) {
        if (!goes_on(r)) continue;
        Runner& runner = all[static_cast<std::size_t>(r)];
        if (!runner.busy) {
          if (claimed == count_) continue;
          runner.task = tasks_.at(claimed++);
          runner.visits = visits(runner.task);
          runner.next = 0;
          runner.busy = true;
        }
        int64_t& own = progress[static_cast<std::size_t>(runner.task.number)];
        if (runner.next < runner.visits.size()) {
          const Visit& visit = runner.visits[runner.next];
          bool may = true;
          EarlierTasks earlier(tasks_, runner.task);
          earlier.begin_strip(visit.strip);
          earlier.for_each(visit.k1, visit.k2, [&](int64_t number, int64_t steps) {
            EXPECT_LT(number, runner.task.number);
            may = may && progress[static_cast<std::size_t>(number)] >= steps;
          });
          if (!may) continue;
          add(runner.task, visit);
          own = visit.steps;
          ++runner.next;
        }
        if (runner.next == runner.visits.size()) {
          own = std::numeric_limits<int64_t>::max();
          runner.busy = false;
          ++ended;
        }
        moved = true;
      }
      idle = moved ? 0 : idle + 1;
      if (idle == 1000) {
        ADD_FAILURE() << "all wait";
        break;
      }
    }
    return rounds;
  }

 private:
  static BlockShape shape(const Problem& problem, int width, int64_t positions, bool keeps_rows) {
    BlockShape block(problem, width, Pass::backward);
    const Axis axis = problem.axes3()[1];
    block.positions = std::min(positions, axis.group_length(0));
    block.key_rows2 = std::min(axis.group_length(0), block.positions + axis.stride + axis.window);
    block.kept_rows = keeps_rows ? block.key_rows() : 1;
    return block;
  }

  std::array<Axis, 3> axes_;
  LaneOrder order_;
  BlockShape block_;
  BackwardTasks tasks_;
  int64_t count_;
};

void check(const Problem& problem, int width, int64_t positions, bool keeps_rows, test::RandomProblems& random) {
  SCOPED_TRACE(problem.id() + " width " + std::to_string(width) + " positions " + std::to_string(positions));
  const Play play(problem, width, positions, keeps_rows);
  std::set<Place> queries;
  for (int64_t number = 0; number < play.count(); ++number) {
    play.for_each_query(play.tasks().at(number),
                        [&](const Place& query) { EXPECT_TRUE(queries.insert(query).second); });
  }
  ASSERT_EQ(static_cast<int64_t>(queries.size()), problem.batch * problem.tokens() * problem.heads_kv);
  // Some runners seldom go on. More of them than a row of tasks has: a task runs beside those that it follows.
  for (const int64_t runners : {random.pick(2, 9), int64_t{100}}) {
    std::map<Place, int64_t> last;
    play.run(
        static_cast<int>(runners), [&](int runner) { return random.pick(0, 1 + runner % 3 * 8) == 0; },
        [&](const BackwardTask& task, const Visit& visit) {
          play.for_each_key(task, visit, [&](const Place& key) {
            int64_t& before = last[key];
            EXPECT_LE(before, task.number);
            before = task.number;
          });
        });
  }
}

TEST(BackwardTasks, HaveEachQueryOnceAndAddToAKeyInTheirOrder) {
  std::vector<Problem> problems = test::large_banded_problems();
  for (const test::Awkward& awkward : test::awkward_problems()) problems.push_back(awkward.problem);
  test::RandomProblems random(11);
  for (int i = 0; i < 100; ++i) problems.push_back(random.next());
  int i = 0;
  for (const Problem& problem : problems) {
    const std::array widths{4, 8, 16, 1};
    check(problem, widths[static_cast<std::size_t>(i % 4)], 1 + i % 8, i % 3 == 0, random);
    ++i;
    if (::testing::Test::HasFailure()) return;
  }
}

/// Rounds with a runner for each task, over those of the longest task alone.
double rounds_over_longest(const Problem& problem, int64_t positions, bool keeps_rows) {
  const Play play(problem, 16, positions, keeps_rows);
  std::size_t longest = 0;
  for (int64_t number = 0; number < play.count(); ++number) {
    longest = std::max(longest, play.visits(play.tasks().at(number)).size());
  }
  const int64_t rounds = play.run(
      static_cast<int>(play.count()), [](int) { return true; }, [](const BackwardTask&, const Visit&) {});
  return static_cast<double>(rounds) / static_cast<double>(longest);
}

TEST(BackwardTasks, HardlyWaitWhereAllRunAtATime) {
  const auto problem = [](std::vector<Axis> axes, int64_t heads) {
    return Problem{.axes = std::move(axes), .heads = heads, .heads_kv = heads};
  };
  EXPECT_LT(rounds_over_longest(problem({{.extent = 28, .window = 7}, {.extent = 28, .window = 7}}, 4), 8, true), 1.2);
  EXPECT_LT(rounds_over_longest(problem({{.extent = 40, .window = 13}, {.extent = 40, .window = 13}}, 1), 6, true),
            1.2);
  const Axis five{.extent = 12, .window = 5};
  EXPECT_LT(rounds_over_longest(problem({five, five, {.extent = 32, .window = 5}}, 2), 6, false), 1.2);
  EXPECT_LT(rounds_over_longest(problem({five, five, {.extent = 32, .window = 5}}, 2), 6, true), 1.2);
  EXPECT_LT(rounds_over_longest(problem({{.extent = 1024, .window = 31}}, 1), 1, true), 1.6);
  EXPECT_LT(rounds_over_longest(problem({{.extent = 2048, .window = 5}}, 3), 1, true), 1.6);
}

TEST(BackwardTasks, AreManyWhereProblemsAreLarge) {
  for (const Problem& problem : test::large_banded_problems()) {
    EXPECT_GE(Play(problem, 16, 4, false).count(), 20) << problem.id();
  }
  // A batch is enough by itself.
  const Problem batch{.axes = {{.extent = 14, .window = 7}, {.extent = 14, .window = 7}}, .batch = 64};
  EXPECT_EQ(Play(batch, 16, 4, true).count(), 64);
}

TEST(BackwardTasks, TakePartsOfTheirBatchEntryInTurn) {
  for (const int64_t part_bytes : {1, 4 << 20, 1 << 30}) {
    Problem problem = test::large_banded_problems()[3];
    const Play play(problem, 16, 4, false, part_bytes);
    const BackwardTasks& tasks = play.tasks();
    EXPECT_LE(problem.batch * tasks.parts_of_entry() * part_bytes,
              std::max<int64_t>(32 << 20, problem.batch * part_bytes));
    std::map<int64_t, int64_t> last;
    for (int64_t number = 0; number < play.count(); ++number) {
      const BackwardTask task = tasks.at(number);
      const int64_t part = tasks.part_of(task);
      EXPECT_EQ(part / tasks.parts_of_entry(), task.batch);
      const auto before = tasks.before_in_part(task);
      EXPECT_EQ(before.has_value(), last.contains(part));
      if (before) {
        EXPECT_EQ(*before, last[part]);
      }
      last[part] = number;
    }
  }
}

}  // namespace
}  // namespace nalab
