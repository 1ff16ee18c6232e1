// How long things are expected to take.
#include "experiments/plan/estimate.h"

#include <gtest/gtest.h>

#include "experiments/plan/plan.h"
#include "tests/experiments/support.h"

namespace nalab::plan {
namespace {

config::Timing timing(int64_t min_samples, int64_t max_samples, double min_seconds, double max_seconds) {
  config::Timing t;
  t.warmups = 2;
  t.min_samples = min_samples;
  t.max_samples = max_samples;
  t.min_seconds = min_seconds;
  t.max_seconds = max_seconds;
  return t;
}

TEST(Estimate, SamplingLastsUntilBothLeastsAreReachedOrOneLimitIs) {
  // A call takes a second; two are warm-ups.
  EXPECT_EQ(timing_seconds(timing(3, 100, 0, 50), 1), 2 + 3) << "the least number of samples";
  EXPECT_EQ(timing_seconds(timing(3, 100, 20, 50), 1), 2 + 20) << "the least time";
  EXPECT_EQ(timing_seconds(timing(3, 10, 20, 50), 1), 2 + 10) << "the greatest number of samples";
  EXPECT_EQ(timing_seconds(timing(30, 100, 0, 20), 1), 2 + 20) << "the greatest time";
  EXPECT_EQ(timing_seconds(timing(3, 100, 0, 0.5), 1), 2 + 1) << "at least one call";
}

TEST(Estimate, ThreadsShareTheWork) {
  const RunPlan plan =
      make_run_plan({experiments_test::load_text("name: x\nvariants: fused\nproblems: [{layout: 50, window: 5}]\n")},
                    "", {int64_t{1} << 40, 1});
  const PlannedRow& row = plan.groups.at(0).rows.at(0);
  EXPECT_GT(call_seconds(row, 1), 0);
  EXPECT_DOUBLE_EQ(call_seconds(row, 4), call_seconds(row, 1) / 4);
}

}  // namespace
}  // namespace nalab::plan
