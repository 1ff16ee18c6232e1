#include "core/parallel.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <ostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "tests/core/support.h"
#include "tests/core/threads.h"

namespace nalab {
namespace {

/// Threads as another library would bring them, started for each call.
void team(void (*member)(void*), void* data, int threads) {
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(member, data);
  member(data);
  for (std::thread& thread : others) thread.join();
}

struct Kind {
  int threads;
  bool has_team;

  std::string name() const { return std::to_string(threads) + "_threads" + (has_team ? "_of_a_team" : ""); }
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name(); }

class WorkersOf : public ::testing::TestWithParam<Kind> {
 protected:
  const int threads_ = GetParam().threads;
  Workers workers_{threads_, GetParam().has_team ? Team(team) : nullptr};
};

TEST_P(WorkersOf, EveryTaskOnceAndNoWorkerTwiceAtATime) {
  ASSERT_EQ(workers_.threads(), threads_);
  for (int64_t tasks : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> calls(static_cast<std::size_t>(tasks));
    std::vector<std::atomic<bool>> busy(static_cast<std::size_t>(threads_));
    std::atomic<int> wrong_worker = 0;
    std::atomic<int> overlaps = 0;
    workers_.for_each(tasks, [&](int64_t task, int worker) {
      ++calls.at(static_cast<std::size_t>(task));
      if (worker < 0 || worker >= threads_) {
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
  std::atomic<int> calls = 0, wrong_worker = 0, overlaps = 0;
  std::vector<std::thread> hosts;
  for (int host = 0; host < 4; ++host) {
    hosts.emplace_back([&] {
      std::vector<std::atomic<bool>> busy(static_cast<std::size_t>(threads_));
      workers_.for_each(200, [&](int64_t, int worker) {
        ++calls;
        if (worker < 0 || worker >= threads_) {
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
  EXPECT_EQ(test::error_of([&] {
              workers_.for_each(100, [](int64_t task, int) {
                if (task == 42) throw Error("task 42 fails");
              });
            }),
            "task 42 fails");
  std::atomic<int64_t> sum = 0;
  workers_.for_each(100, [&](int64_t task, int) { sum += task; });
  EXPECT_EQ(sum, 4950);
}

TEST_P(WorkersOf, AllThreadsReallyWorkTogetherHoweverFewCoresThereAre) {
  EXPECT_TRUE(test::tasks_meet(workers_, threads_));
}

TEST_P(WorkersOf, ATaskMayCallThemAgain) {
  std::atomic<int64_t> sum = 0;
  workers_.for_each(20, [&](int64_t outer, int) {
    workers_.for_each(20, [&](int64_t inner, int worker) {
      EXPECT_LT(worker, threads_);
      sum += 20 * outer + inner;
    });
  });
  EXPECT_EQ(sum, 399 * 400 / 2);
}

// So that denormals, say, are treated alike whichever thread meets them.
TEST_P(WorkersOf, AllThreadsTakeTheFloatingPointEnvironmentOfTheCaller) {
  for (const int rounding : {FE_UPWARD, FE_DOWNWARD, FE_TONEAREST}) {
    std::fesetround(rounding);
    std::atomic<int> same = 0, started = 0;
    workers_.for_each(threads_, [&](int64_t, int) {
      same += std::fegetround() == rounding;
      ++started;
      while (started < threads_) std::this_thread::yield();
    });
    EXPECT_EQ(same, threads_);
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, WorkersOf,
                         ::testing::Values(Kind{1, false}, Kind{2, false}, Kind{3, false}, Kind{7, false},
                                           Kind{1, true}, Kind{2, true}, Kind{3, true}, Kind{7, true}),
                         [](const auto& test) { return test.param.name(); });

TEST(Workers, WithATeamRunOnItsThreadsAloneAndLeaveTheirEnvironmentAsItWas) {
  const auto caller = std::this_thread::get_id();
  std::atomic<int> calls = 0, most = 0, strangers = 0, kept = 0;
  std::vector<std::thread::id> members(2);
  Workers workers(2, [&](void (*member)(void*), void* data, int threads) {
    ++calls;
    most = std::max<int>(most, threads);
    std::thread other([&] {
      members[1] = std::this_thread::get_id();
      std::fesetround(FE_UPWARD);
      member(data);
      kept += std::fegetround() == FE_UPWARD;
    });
    member(data);
    other.join();
  });
  members[0] = caller;
  EXPECT_TRUE(test::tasks_meet(workers, 2));
  workers.for_each(
      50, [&](int64_t, int) { strangers += std::ranges::find(members, std::this_thread::get_id()) == members.end(); });
  workers.for_each(1, [&](int64_t, int) { strangers += std::this_thread::get_id() != caller; });
  EXPECT_EQ(calls, 2) << "a single task needs no team";
  EXPECT_EQ(most, 2);
  EXPECT_EQ(strangers, 0);
  EXPECT_EQ(kept, 2);
}

TEST(Workers, WhoseTeamHasFewerThreadsStillDoEveryTask) {
  Workers workers(7, [](void (*member)(void*), void* data, int) { member(data); });
  std::atomic<int64_t> sum = 0;
  workers.for_each(100, [&](int64_t task, int worker) {
    sum += task;
    EXPECT_EQ(worker, 0);
  });
  EXPECT_EQ(sum, 4950);
}

TEST(Workers, OneThreadIsTheCallingOne) {
  Workers workers(1);
  const auto caller = std::this_thread::get_id();
  std::atomic<int> strangers = 0;
  workers.for_each(64, [&](int64_t, int) { strangers += std::this_thread::get_id() != caller; });
  EXPECT_EQ(strangers, 0);
}

TEST(Workers, OfDifferentSizesInOneProgramLeaveEachOtherAlone) {
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  Workers one(1), two(2), nine(9);
  std::vector<std::thread> hosts;
  std::atomic<int> met = 0;
  for (Workers* workers : {&two, &nine, &two, &nine}) {
    hosts.emplace_back([&met, workers] { met += test::tasks_meet(*workers, workers->threads()); });
    one.for_each(1, [&](int64_t, int) { met += test::tasks_meet(two, 2); });
  }
  for (std::thread& host : hosts) host.join();
  EXPECT_EQ(met, 8);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

TEST(Workers, RefuseWhatIsNotANumberOfThreads) {
  for (const int threads : {0, -1, 1025, std::numeric_limits<int>::max()}) {
    EXPECT_EQ(test::error_of([&] { Workers workers(threads); }),
              "threads " + std::to_string(threads) + " must be from 1 to 1024");
  }
}

// The sanitizers need more address space than that, and the thread sanitizer starts no threads after a fork.
#ifndef NALAB_SANITIZED
/// In a process of its own, since the limit stays.
[[noreturn]] void ask_for_more_than_the_system_starts() {
  const rlimit limit{rlim_t{1} << 30, rlim_t{1} << 30};  // of address space, of which a stack takes 8 MiB
  setrlimit(RLIMIT_AS, &limit);
  const std::string error = test::error_of([] { Workers workers(1000); });
  Workers fewer(3);
  std::cerr << (test::tasks_meet(fewer, 3) ? error : "fewer threads do not work either");
  std::_Exit(7);
}

TEST(Workers, RefuseMoreThreadsThanTheSystemStarts) {
  EXPECT_EXIT(ask_for_more_than_the_system_starts(), testing::ExitedWithCode(7),
              "^1000 threads cannot be started, only [0-9]+: Resource temporarily unavailable$");
}

TEST(Workers, AfterAForkNewOnesAndThoseOfTheParentWorkInTheChild) {
  const pid_t parent = getpid();
  Workers parents(3);
  // As OpenMP's, whose threads do not exist in a child, which would wait for them.
  Workers with_team(3, [parent](void (*member)(void*), void* data, int threads) {
    if (getpid() == parent) team(member, data, threads);
  });
  EXPECT_TRUE(test::tasks_meet(parents, 3));
  EXPECT_TRUE(test::tasks_meet(with_team, 3));
  const pid_t child = fork();
  if (child == 0) {
    bool good = false;
    {
      Workers own(2);
      good = test::tasks_meet(own, 2) && test::tasks_meet(parents, 3) && test::tasks_meet(parents, 3) &&
             test::tasks_meet(with_team, 3) && test::tasks_meet(with_team, 3);
    }
    std::_Exit(good ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(test::tasks_meet(parents, 3));
}
#endif

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
