#include "core/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

class WorkersOf : public ::testing::TestWithParam<int> {};

TEST_P(WorkersOf, EveryTaskOnceAndNoWorkerTwiceAtATime) {
  Workers workers(GetParam());
  ASSERT_EQ(workers.threads(), GetParam());
  for (int64_t tasks : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> calls(static_cast<std::size_t>(tasks));
    std::vector<std::atomic<bool>> busy(static_cast<std::size_t>(GetParam()));
    std::atomic<int> wrong_worker = 0;
    std::atomic<int> overlaps = 0;
    workers.for_each(tasks, [&](int64_t task, int worker) {
      ++calls.at(static_cast<std::size_t>(task));
      if (worker < 0 || worker >= GetParam()) {
        ++wrong_worker;
        return;
      }
      auto& mine = busy[static_cast<std::size_t>(worker)];
      if (mine.exchange(true)) ++overlaps;
      std::this_thread::yield();
      mine = false;
    });
    for (const auto& count : calls) ASSERT_EQ(count, 1);
    EXPECT_EQ(wrong_worker, 0);
    EXPECT_EQ(overlaps, 0);
  }
}

TEST_P(WorkersOf, ExceptionReachesTheCallerAndWorkersGoOn) {
  Workers workers(GetParam());
  EXPECT_EQ(test::error_of([&] {
              workers.for_each(100, [](int64_t task, int) {
                if (task == 42) throw Error("task 42 fails");
              });
            }),
            "task 42 fails");
  std::atomic<int64_t> sum = 0;
  workers.for_each(100, [&](int64_t task, int) { sum += task; });
  EXPECT_EQ(sum, 4950);
}

INSTANTIATE_TEST_SUITE_P(Threads, WorkersOf, ::testing::Values(1, 2, 3, 7),
                         [](const auto& test) { return std::to_string(test.param) + "_threads"; });

TEST(Workers, OneThreadIsTheCallingOne) {
  Workers workers(1);
  const auto caller = std::this_thread::get_id();
  std::atomic<int> strangers = 0;
  workers.for_each(64, [&](int64_t, int) { strangers += std::this_thread::get_id() != caller; });
  EXPECT_EQ(strangers, 0);
}

TEST(Workers, SeveralThreadsReallyWorkTogether) {
  Workers workers(2);
  // The first task waits for the second: with a single thread it would wait in vain.
  std::atomic<bool> second_started = false;
  std::atomic<bool> met = false;
  workers.for_each(2, [&](int64_t task, int) {
    if (task == 1) second_started = true;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (task == 0 && !second_started && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    if (task == 0) met = second_started.load();
  });
  EXPECT_TRUE(met);
}

TEST(ChooseThreads, RequestThenEnvironmentThenHardware) {
  const test::ScopedEnvironment environment("NALAB_THREADS");
  environment.unset();
  EXPECT_GE(hardware_threads(), 1);
  EXPECT_EQ(choose_threads(0), hardware_threads());
  environment.set("");
  EXPECT_EQ(choose_threads(0), hardware_threads());
  environment.set("3");
  EXPECT_EQ(choose_threads(0), 3);
  EXPECT_EQ(choose_threads(5), 5);
  environment.set("1024");
  EXPECT_EQ(choose_threads(0), 1024);
}

TEST(ChooseThreads, RefusesWhatIsNoThreadCount) {
  const test::ScopedEnvironment environment("NALAB_THREADS");
  for (const std::string text : {"0", "-1", "1025", "2x", "x", "1.5", " 2", "99999999999999999999"}) {
    environment.set(text);
    EXPECT_EQ(test::error_of([] { choose_threads(0); }),
              "NALAB_THREADS '" + text + "' must be a number from 1 to 1024");
    EXPECT_EQ(choose_threads(2), 2) << "not looked at";
  }
}

}  // namespace
}  // namespace nalab
