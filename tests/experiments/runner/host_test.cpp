// A run and the machine around it: memory that others take, a user who stops it, a clock that fails, noise, and what is
// stored of all that.
#include "experiments/runner/host.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "experiments/runner/this_host.h"
#include "tests/experiments/runner/runner_fixture.h"

namespace nalab::runner_test {
namespace {

using testing::ElementsAre;

TEST_F(RunnerTest, RowsThatNeedMoreThanIsFreeAreRefusedWithTheNumbers) {
  const plan::PlannedRow small = row(kA);
  plan::PlannedRow large = row(kB);
  large.memory_bytes = 2'000'000;
  large.workspace_bytes = 500'000;
  script.host.free = 1'500'000;
  const auto got = run({small, large});
  EXPECT_EQ(got.at("b").row.status, "refused");
  EXPECT_EQ(got.at("b").row.reason, "needs 2.00 MB of memory (500 kB of it workspace), the free memory is 1.50 MB");
  EXPECT_EQ(got.at("a").row.status, "done");
  EXPECT_EQ(script.calls, "aaaa");
}

TEST_F(RunnerTest, ARowMayTakeAllThatIsFree) {
  plan::PlannedRow exact = row(kB);
  exact.memory_bytes = script.host.free = 1'500'000;
  EXPECT_EQ(run({exact}).at("b").row.status, "done");
  exact.memory_bytes += 1;
  EXPECT_EQ(run({exact}).at("b").row.status, "refused");
}

TEST_F(RunnerTest, NothingIsAllocatedIfNoRowFits) {
  script.host.free = 10;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(totals_.refused, 2);
  EXPECT_EQ(script.calls, "");
  EXPECT_EQ(script.host.watched, 0);
}

TEST_F(RunnerTest, GroupsBeyondTheBudgetAreStoredAsRefused) {
  settings_.timing.budget_seconds = 10;
  plan::RunPlan plan;
  for (int i = 0; i < 3; ++i) {
    plan.groups.push_back({{row(kA), row(kB)}, settings_});
    for (plan::PlannedRow& planned : plan.groups.back().rows) {
      planned.seconds = 2;
      planned.baseline = "another";
    }
  }
  std::vector<std::string> outcomes;
  EXPECT_CALL(sink_, append).Times(3).WillRepeatedly([&](std::span<const store::FinishedRow> rows) {
    for (const store::FinishedRow& r : rows) outcomes.push_back(r.row.status);
  });
  EXPECT_CALL(progress_, started).Times(3);
  EXPECT_CALL(progress_, finished).Times(3);
  Workers workers(1);
  // Eight calls of a second each where four were expected: the pace is 13 / 9, and the next would end after 13 s.
  const runner::Totals totals = runner::run(plan, workers, script.clock, script.host, sink_, progress_);
  EXPECT_THAT(outcomes, ElementsAre("done", "done", "refused", "refused", "refused", "refused"));
  EXPECT_EQ(totals.refused, 4);
  EXPECT_FALSE(totals.stopped);
}

TEST_F(RunnerTest, AGroupThatIsStoppedIsDroppedAfterItsCall) {
  for (const int call : {1, 2, 3, 4}) {  // verified, warm-up, samples
    script = Script{};
    settings_.timing.warmups = 2;
    script.asked_at_call_of_b = call;
    plan::RunPlan plan;
    plan.groups.push_back({{row(kA)}, settings_});
    plan.groups.push_back({{row(kB)}, settings_});
    plan.groups.push_back({{row(kA)}, settings_});
    std::vector<std::string> stored;
    EXPECT_CALL(sink_, append).WillOnce([&](std::span<const store::FinishedRow> rows) {
      for (const store::FinishedRow& r : rows) stored.push_back(r.row.variant);
    });
    EXPECT_CALL(progress_, started).Times(2);
    EXPECT_CALL(progress_, finished).Times(1);
    Workers workers(1);
    const runner::Totals totals = runner::run(plan, workers, script.clock, script.host, sink_, progress_);
    EXPECT_TRUE(totals.stopped);
    EXPECT_EQ(totals.done, 1);
    EXPECT_EQ(script.calls_of_b, call);
    EXPECT_THAT(stored, ElementsAre("a"));
    testing::Mock::VerifyAndClearExpectations(&sink_);
    testing::Mock::VerifyAndClearExpectations(&progress_);
  }
}

TEST_F(RunnerTest, AGroupWhoseLastCallIsMadeIsKept) {
  script.asked_at_call_of_b = 4;  // the third of three samples
  const auto got = run({row(kB)});
  EXPECT_EQ(got.at("b").row.samples.size(), 3u);
  EXPECT_FALSE(totals_.stopped) << "nothing is left to do";
}

TEST_F(RunnerTest, ARunThatIsNotStoppedSaysSo) {
  run({row(kA)});
  EXPECT_FALSE(totals_.stopped);
}

TEST_F(RunnerTest, TimesByAClockThatJumpsBackAreTakenAgain) {
  script.jumps = {0, 0, -1000, 0, -1000};  // after so many calls of a
  const auto got = run({row(kA)});
  EXPECT_EQ(got.at("a").row.status, "done");
  EXPECT_THAT(got.at("a").row.samples, ElementsAre(1, 1, 1));
  EXPECT_EQ(script.calls, "aaaaaa");
}

TEST_F(RunnerTest, AClockThatStandsStillGivesNoTimes) {
  script.seconds_of_a = 0;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("a").row.status, "refused");
  EXPECT_EQ(got.at("a").row.reason, "the clock did not advance during 100 calls");
  EXPECT_TRUE(got.at("a").row.samples.empty());
  EXPECT_EQ(got.at("b").row.status, "done");
}

TEST(SteadyClock, NeverGoesBack) {
  static_assert(std::chrono::steady_clock::is_steady);
  runner::SteadyClock clock;
  double last = clock.seconds();
  for (int i = 0; i < 1000; ++i) {
    const double now = clock.seconds();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST_F(RunnerTest, SamplesThatScatterAreFollowedByMore) {
  settings_.timing.max_noise = 0.1;
  script.times_of_a = {9, 1, 2, 3, 1, 1, 1, 1, 1, 1, 1};  // the first is the verified call
  const auto got = run({row(kA)});
  EXPECT_EQ(got.at("a").row.stopped_by, "noise");
  // The quartiles of eight are 1 and 1.25: an error of 0.929 * 0.25 / sqrt(8); those of seven are 1 and 1.5.
  EXPECT_THAT(got.at("a").row.samples, ElementsAre(1, 2, 3, 1, 1, 1, 1, 1));
}

TEST_F(RunnerTest, QuietSamplesAreEnoughAtTheMinimum) {
  settings_.timing.max_noise = 0.001;
  const auto got = run({row(kA)});
  EXPECT_EQ(got.at("a").row.samples.size(), 3u);
  EXPECT_EQ(got.at("a").row.stopped_by, "noise");
}

TEST_F(RunnerTest, NoiseNeverOutlivesTheLimits) {
  settings_.timing.max_noise = 0.001;
  for (int i = 0; i < 60; ++i) script.times_of_a.push_back(1 + i % 3);
  EXPECT_EQ(run({row(kA)}).at("a").row.stopped_by, "count");
  settings_.timing.max_seconds = 5;
  const auto got = run({row(kA)});
  EXPECT_EQ(got.at("a").row.stopped_by, "time");
  EXPECT_LT(got.at("a").row.samples.size(), 5u);
}

TEST_F(RunnerTest, ASingleSampleIsEnoughForWhoeverAsksForNothing) {
  settings_.timing = {.min_samples = 1, .max_samples = 9, .min_seconds = 0, .max_noise = 1, .max_seconds = 99};
  EXPECT_EQ(run({row(kA)}).at("a").row.samples.size(), 1u);
  settings_.timing.max_noise = 0.5;
  EXPECT_EQ(run({row(kA)}).at("a").row.samples.size(), 2u) << "of a single one nothing is known";
}

TEST_F(RunnerTest, RowsWithoutTimesWereStoppedByNothing) {
  script.error_of_b = 1;
  EXPECT_EQ(run({row(kA), row(kB)}).at("b").row.stopped_by, "");
}

TEST_F(RunnerTest, WhatWasSeenOfTheMachineIsStoredWithEachRow) {
  script.host.seen = {.cpus_others = 1, .cpus_stolen = 2, .cpus_throttled = 3, .peak_before = 4, .peak_after = 5};
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(script.host.watched, 1) << "rows of a group run side by side";
  for (const char* variant : {"a", "b"}) {
    const store::Row& r = got.at(variant).row;
    EXPECT_EQ(r.cpus_others, 1);
    EXPECT_EQ(r.cpus_stolen, 2);
    EXPECT_EQ(r.cpus_throttled, 3);
    EXPECT_EQ(r.peak_before, 4);
    EXPECT_EQ(r.peak_after, 5);
  }
}

TEST(ThisHost, MeasuresThePeakBeforeAndAfterAGroup) {
  Workers workers(1);
  FakeClock clock;
  runner::ThisHost host(Isa::baseline, workers, clock, [] { return false; });
  EXPECT_FALSE(host.asked_to_stop());
  EXPECT_GT(host.free_memory_bytes(), 0);
  host.watch();
  const runner::Observation first = host.observe();
  EXPECT_GT(first.peak_before, 0);
  EXPECT_GT(first.peak_after, 0);
  EXPECT_EQ(first.cpus_others, 0) << "no time has passed";
  host.watch();
  EXPECT_EQ(host.observe().peak_before, first.peak_after);
}

}  // namespace
}  // namespace nalab::runner_test
