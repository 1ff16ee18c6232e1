#include "core/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "tests/core/support.h"
#include "tests/core/threads.h"

namespace nalab {
namespace {

class WorkersOf : public ::testing::TestWithParam<int> {
 protected:
  test::EnoughThreads enough_{GetParam()};
};

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

TEST_P(WorkersOf, SeveralHostThreadsAtOnceHaveNoWorkerTwiceAtATimeInACall) {
  Workers workers(GetParam());
  std::atomic<int> calls = 0, wrong_worker = 0, overlaps = 0;
  std::vector<std::thread> hosts;
  for (int host = 0; host < 4; ++host) {
    hosts.emplace_back([&] {
      std::vector<std::atomic<bool>> busy(static_cast<std::size_t>(GetParam()));
      workers.for_each(200, [&](int64_t, int worker) {
        ++calls;
        if (worker < 0 || worker >= GetParam()) {
          ++wrong_worker;
          return;
        }
        if (busy[static_cast<std::size_t>(worker)].exchange(true)) ++overlaps;
        std::this_thread::yield();
        busy[static_cast<std::size_t>(worker)] = false;
      });
    });
  }
  for (std::thread& host : hosts) host.join();
  EXPECT_EQ(calls, 4 * 200);
  EXPECT_EQ(wrong_worker, 0);
  EXPECT_EQ(overlaps, 0);
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
  const test::EnoughThreads enough(2);
  Workers workers(2);
  EXPECT_TRUE(test::two_tasks_meet(workers));
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

TEST(ChooseThreads, RefusesWhatIsNotAThreadCount) {
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
