// What the runner verifies, times and refuses, and in which order.
#include "experiments/runner/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/experiments/runner/runner_fixture.h"

namespace nalab::runner_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST_F(RunnerTest, VerifiesThenTimesInterleavedInAlternatingOrder) {
  script.seconds_of_b = 2;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(script.calls,
            "ab"
            "ab"
            "ba"
            "ab");
  EXPECT_THAT(got.at("a").row.samples, ElementsAre(1, 1, 1));
  EXPECT_THAT(got.at("b").row.samples, ElementsAre(2, 2, 2));
  EXPECT_EQ(got.at("a").row.status, "done");
  EXPECT_EQ(got.at("a").row.verified_queries, 70);
  EXPECT_LT(got.at("a").row.error_frobenius, 1e-6);
  EXPECT_EQ(got.at("a").row.bound_frobenius, 2e-6);
  EXPECT_EQ(totals_.done, 2);
}

TEST_F(RunnerTest, TheVerifiedCallIsTheFirstWarmUp) {
  settings_.timing.warmups = 3;
  settings_.timing.min_samples = 1;
  settings_.timing.max_noise = 1;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(script.calls,
            "ab"
            "aabb"
            "ab");
  EXPECT_EQ(got.at("a").row.warmups, 3);
}

TEST_F(RunnerTest, GoesOnUntilTheSamplesAddUpToMinSeconds) {
  settings_.timing.min_samples = 2;
  settings_.timing.min_seconds = 4.5;
  script.seconds_of_b = 2;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("a").row.samples.size(), 5u);
  EXPECT_EQ(got.at("b").row.samples.size(), 3u);
}

TEST_F(RunnerTest, TakesAtMostMaxSamples) {
  settings_.timing.min_seconds = 99;
  EXPECT_EQ(run({row(kA)}).at("a").row.samples.size(), 10u);
}

TEST_F(RunnerTest, EndsAtMaxSecondsWithOneSampleAtLeast) {
  settings_.timing.max_seconds = 2;
  script.seconds_of_b = 50;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("a").row.samples.size(), 2u);
  EXPECT_EQ(got.at("b").row.samples.size(), 1u);
}

TEST_F(RunnerTest, AWrongResultGetsNoTime) {
  script.error_of_b = 1;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(script.calls,
            "ab"
            "aaa");
  EXPECT_EQ(got.at("b").row.status, "failed");
  EXPECT_THAT(got.at("b").row.reason, StartsWith("out: frobenius "));
  EXPECT_THAT(got.at("b").row.reason, HasSubstr("worst at 0: "));
  EXPECT_TRUE(got.at("b").row.samples.empty());
  EXPECT_GT(got.at("b").row.error_max, got.at("b").row.bound_max);
  EXPECT_EQ(got.at("a").row.status, "done");
  EXPECT_EQ(totals_.failed, 1);
}

TEST_F(RunnerTest, AResultThatIsNotWrittenIsNotTheOneOfTheRowBefore) {
  script.b_writes = false;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("b").row.status, "failed");
}

TEST_F(RunnerTest, AWrongResultInASampleOfQueriesFails) {
  settings_.verify = {.budget_seconds = 0, .sampled_queries = 3};
  script.error_of_b = 1;  // at a corner, which every sample includes
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("a").row.status, "done");
  EXPECT_LT(got.at("a").row.verified_queries, 20);
  EXPECT_EQ(got.at("a").row.total_queries, 70);
  EXPECT_EQ(got.at("b").row.status, "failed");
}

TEST_F(RunnerTest, RefusedRowsAreStoredWithTheReason) {
  plan::PlannedRow refused = row(kB);
  refused.refusal = "of another world";
  const auto got = run({row(kA), refused});
  EXPECT_EQ(got.at("b").row.status, "refused");
  EXPECT_EQ(got.at("b").row.reason, "of another world");
  EXPECT_EQ(script.calls, "aaaa");
  EXPECT_EQ(totals_.refused, 1);
}

TEST_F(RunnerTest, RowsThatNeverGotAPlanStillSayTheirInstructionSet) {
  Variant picky = kB;
  picky.supports = [](const Problem&, Pass) -> std::optional<std::string> { return "not this one"; };
  const store::Row r = run({row(kA), row(picky)}).at("b").row;
  EXPECT_EQ(r.status, "refused");
  EXPECT_EQ(r.isa, "baseline");
  EXPECT_EQ(r.arithmetic, "");
}

TEST_F(RunnerTest, MissingMemoryRefusesARow) {
  script.b_throws = 1;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("b").row.status, "refused");
  EXPECT_EQ(got.at("b").row.reason, "not enough memory");
  EXPECT_EQ(got.at("a").row.status, "done");
}

TEST_F(RunnerTest, AnExceptionFailsARow) {
  script.b_throws = 2;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("b").row.status, "failed");
  EXPECT_EQ(got.at("b").row.reason, "broken pipe");
}

TEST_F(RunnerTest, AnExceptionFailsARowAtAnyOfItsCalls) {
  settings_.timing.warmups = 2;
  for (const int call : {1, 2, 3, 4}) {  // verified, warm-up, samples
    script = Script{};
    script.b_throws = 2;
    script.b_throws_at_call = call;
    const auto got = run({row(kA), row(kB)});
    EXPECT_EQ(got.at("b").row.status, "failed") << call;
    EXPECT_EQ(got.at("b").row.reason, "broken pipe") << call;
    EXPECT_TRUE(got.at("b").row.samples.empty()) << call;
    EXPECT_EQ(got.at("a").row.samples.size(), 3u) << call;
    EXPECT_EQ(script.calls_of_b, call);
    testing::Mock::VerifyAndClearExpectations(&sink_);
    testing::Mock::VerifyAndClearExpectations(&progress_);
  }
}

TEST_F(RunnerTest, MissingMemoryForASampleRefusesThatRowAlone) {
  script.b_throws = 1;
  script.b_throws_at_call = 3;
  const auto got = run({row(kA), row(kB)});
  EXPECT_EQ(got.at("b").row.status, "refused");
  EXPECT_TRUE(got.at("b").row.samples.empty());
  EXPECT_EQ(got.at("a").row.samples.size(), 3u);
}

TEST_F(RunnerTest, BothPassesAreTimedTogetherAndGradientsVerified) {
  const auto got = run({row(kA, RowPass::forward_backward)});
  EXPECT_EQ(script.calls, "agagagag");
  EXPECT_THAT(got.at("a").row.samples, ElementsAre(11, 11, 11));
  EXPECT_EQ(got.at("a").row.status, "done") << got.at("a").row.reason;
}

TEST_F(RunnerTest, PackingIsTimedAfterTheSamples) {
  Variant packing = kA;
  packing.pack = pack_a;
  settings_.timing.min_samples = 9;
  const auto got = run({row(packing), row(kB)});
  EXPECT_TRUE(script.calls.ends_with("abppppp")) << script.calls;
  EXPECT_EQ(got.at("a").row.packing_seconds, 0.75) << "the median of 0.25 to 1.25";
  EXPECT_EQ(got.at("b").row.packing_seconds, 0);
  EXPECT_EQ(got.at("a").row.samples.size(), 9u);
}

TEST_F(RunnerTest, PackingTakesNoMoreSamplesThanAsked) {
  Variant packing = kA;
  packing.pack = pack_a;
  settings_.timing.min_samples = 2;
  run({row(packing)});
  EXPECT_EQ(script.calls, "aaapp");
}

TEST_F(RunnerTest, PackingIsTimedForTheForwardPassAlone) {
  Variant packing = kA;
  packing.pack = pack_a;
  EXPECT_EQ(run({row(packing, RowPass::forward_backward)}).at("a").row.packing_seconds, 0);
  EXPECT_EQ(script.calls.find('p'), std::string::npos);
}

TEST_F(RunnerTest, PackingThatThrowsFailsTheRow) {
  Variant packing = kA;
  packing.pack = pack_a;
  script.packing_throws = true;
  const auto got = run({row(packing)});
  EXPECT_EQ(got.at("a").row.status, "failed");
  EXPECT_EQ(got.at("a").row.reason, "broken box");
  EXPECT_TRUE(got.at("a").row.samples.empty());
}

}  // namespace
}  // namespace nalab::runner_test
