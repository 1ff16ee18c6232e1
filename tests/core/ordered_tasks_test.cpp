#include "core/ordered_tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

using Task = OrderedTasks::Task;

/// Now and then a while, a different one each time.
void dawdle(std::minstd_rand& random) {
  if (random() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));
}

class OrderedTasksOf : public ::testing::TestWithParam<int> {};

TEST_P(OrderedTasksOf, EveryTaskOnceByAWorkerOfItsOwn) {
  Workers workers(GetParam());
  OrderedTasks tasks(workers);
  for (int64_t count : {0, 1, 2, 5, 300}) {
    std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
    std::vector<std::atomic<bool>> busy(static_cast<std::size_t>(GetParam()));
    tasks.for_each(count, [&](const Task& task) {
      ++calls.at(static_cast<std::size_t>(task.number()));
      EXPECT_FALSE(busy.at(static_cast<std::size_t>(task.worker())).exchange(true));
      std::this_thread::yield();
      busy.at(static_cast<std::size_t>(task.worker())) = false;
    });
    for (const auto& n : calls) ASSERT_EQ(n, 1);
  }
}

// What the class is for: plain, unguarded memory that several tasks write, each cell in the order of the tasks. Tasks
// walk over overlapping ranges of cells at random speeds.
TEST_P(OrderedTasksOf, CellsAreWrittenInTheOrderOfTheTasks) {
  constexpr int64_t kTasks = 120;
  constexpr int64_t kCells = 40;
  struct Walk {
    int64_t begin, end, lane;
  };
  // Lanes are memory of their own: tasks of one lane ask nothing of those of another.
  constexpr int64_t kLanes = 3;
  std::vector<Walk> walks;
  std::minstd_rand shapes(7);
  for (int64_t t = 0; t < kTasks; ++t) {
    const int64_t begin = static_cast<int64_t>(shapes() % kCells);
    const int64_t length = 1 + static_cast<int64_t>(shapes() % kCells);
    walks.push_back({begin, std::min(begin + length, kCells), static_cast<int64_t>(shapes() % kLanes)});
  }
  std::vector<std::vector<int64_t>> expected(kLanes * kCells);
  for (int64_t t = 0; t < kTasks; ++t) {
    const Walk& walk = walks[static_cast<std::size_t>(t)];
    for (int64_t c = walk.begin; c < walk.end; ++c) {
      expected[static_cast<std::size_t>(walk.lane * kCells + c)].push_back(t);
    }
  }

  Workers workers(GetParam());
  OrderedTasks tasks(workers);
  for (int round = 0; round < 5; ++round) {
    std::vector<std::vector<int64_t>> written(kLanes * kCells);
    tasks.for_each(kTasks, [&](const Task& task) {
      std::minstd_rand random(static_cast<unsigned>(task.number() + 1000 * round + 1));
      const Walk& walk = walks[static_cast<std::size_t>(task.number())];
      task.pass(walk.begin);
      for (int64_t c = walk.begin; c < walk.end;) {
        dawdle(random);
        const int64_t block = std::min(c + 1 + static_cast<int64_t>(random() % 5), walk.end);
        task.wait_for_earlier([&](int64_t earlier) {
          const Walk& other = walks[static_cast<std::size_t>(earlier)];
          const bool apart = other.lane != walk.lane || other.begin >= block || other.end <= c;
          return apart ? OrderedTasks::kStart : block;
        });
        for (; c < block; ++c) written[static_cast<std::size_t>(walk.lane * kCells + c)].push_back(task.number());
        task.pass(c);
      }
    });
    ASSERT_EQ(written, expected);
  }
}

TEST_P(OrderedTasksOf, WaitingForTheEndOfAllEarlierTasksIsOneAfterTheOther) {
  Workers workers(GetParam());
  OrderedTasks tasks(workers);
  std::vector<int64_t> order;
  tasks.for_each(60, [&](const Task& task) {
    std::minstd_rand random(static_cast<unsigned>(task.number() + 1));
    dawdle(random);
    task.wait_for_earlier([](int64_t) { return OrderedTasks::kEnd; });
    order.push_back(task.number());
  });
  ASSERT_EQ(order.size(), 60u);
  for (std::size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i], static_cast<int64_t>(i));
}

TEST_P(OrderedTasksOf, AnExceptionReachesTheCallerAndLeavesNobodyWaiting) {
  Workers workers(GetParam());
  OrderedTasks tasks(workers);
  std::atomic<int64_t> greatest = 0;
  EXPECT_EQ(test::error_of([&] {
              tasks.for_each(100000, [&](const Task& task) {
                greatest = std::max<int64_t>(greatest, task.number());
                if (task.number() == 7) {
                  std::this_thread::sleep_for(std::chrono::milliseconds(2));
                  throw Error("task 7 fails");
                }
                task.wait_for_earlier([](int64_t) { return OrderedTasks::kEnd; });
              });
            }),
            "task 7 fails");
  EXPECT_LT(greatest, 7 + GetParam() + 1) << "tasks went past one that they wait for";
  int64_t sum = 0;
  tasks.for_each(100, [&](const Task& task) {
    task.wait_for_earlier([](int64_t) { return OrderedTasks::kEnd; });
    sum += task.number();
  });
  EXPECT_EQ(sum, 4950);
}

TEST_P(OrderedTasksOf, ATaskMayFollowAnotherStepByStep) {
  constexpr int32_t kTasks = 40, kSteps = 30;
  Workers workers(GetParam());
  OrderedTasks tasks(workers);
  std::vector<TaskProgress> progress(kTasks);
  std::vector<std::vector<int64_t>> written(kSteps);
  tasks.for_each(kTasks, [&](const Task& task) {
    std::minstd_rand random(static_cast<unsigned>(task.number() + 1));
    const auto number = static_cast<std::size_t>(task.number());
    for (int32_t step = 0; step < kSteps; ++step) {
      dawdle(random);
      if (number > 0) progress[number - 1].wait_for(step + 1);
      written[static_cast<std::size_t>(step)].push_back(task.number());
      progress[number].reach(step + 1);
    }
    progress[number].reach(TaskProgress::kEnd);
  });
  for (const auto& numbers : written) {
    ASSERT_EQ(numbers.size(), static_cast<std::size_t>(kTasks));
    EXPECT_TRUE(std::ranges::is_sorted(numbers));
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, OrderedTasksOf, ::testing::Values(1, 2, 3, 7),
                         [](const auto& test) { return std::to_string(test.param) + "_threads"; });

// Later tasks must not wait for ones that ask for nothing: the first task ends only once the second is through.
TEST(OrderedTasks, TasksThatAreNotConcernedRunTogether) {
  Workers workers(2);
  OrderedTasks tasks(workers);
  std::atomic<bool> second_through = false;
  std::atomic<bool> met = false;
  tasks.for_each(2, [&](const Task& task) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    if (task.number() == 1) {
      task.wait_for_earlier([](int64_t) { return OrderedTasks::kStart; });
      second_through = true;
      return;
    }
    while (!second_through && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    met = second_through.load();
  });
  EXPECT_TRUE(met);
}

// A task goes on as soon as the earlier one is far enough, before that one ends.
TEST(OrderedTasks, APositionPassedLetsALaterTaskGoOn) {
  Workers workers(2);
  OrderedTasks tasks(workers);
  std::atomic<bool> second_through = false;
  std::atomic<bool> too_early = false;
  std::atomic<bool> passed = false;
  std::atomic<bool> met = false;
  tasks.for_each(2, [&](const Task& task) {
    if (task.number() == 1) {
      task.wait_for_earlier([](int64_t) { return int64_t{5}; });
      too_early = !passed;
      second_through = true;
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // long enough for the other one to fall asleep
    task.pass(4);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    passed = true;
    task.pass(5);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!second_through && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    met = second_through.load();
  });
  EXPECT_TRUE(met);
  EXPECT_FALSE(too_early);
}

}  // namespace
}  // namespace nalab
