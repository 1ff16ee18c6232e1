// Groups that do not fit into the time that their configuration allows.
#include "experiments/plan/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "experiments/plan/announce.h"
#include "tests/experiments/support.h"

namespace nalab {
namespace {

using experiments_test::load_text;
using plan::Budget;
using plan::Group;
using plan::RunPlan;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kConfig =
    "name: NAME\nvariants: [dense, fused]\ntiming: {budget_seconds: 100}\n"
    "problems:\n- {label: a, layout: 50, window: 3}\n- {label: b, layout: 50, window: 5}\n"
    "- {label: c, layout: 60, window: 3}\n- {label: d, layout: 60, window: 5}\n";

RunPlan make(const std::string& name = "x", const std::string& text = kConfig) {
  std::string named = text;
  named.replace(named.find("NAME"), 4, name);
  return plan::make_run_plan({load_text(named)}, "", {int64_t{1} << 40, 1});
}

/// Sets the time that a group is expected to take.
void expect(Group& group, double seconds) {
  for (plan::PlannedRow& row : group.rows) row.seconds = seconds / static_cast<double>(group.rows.size());
}

TEST(Budget, LeavesOutWhatWouldEndTooLate) {
  RunPlan plan = make();
  for (Group& group : plan.groups) expect(group, 40);
  Budget budget;
  EXPECT_EQ(budget.left_out(plan.groups[0]), std::nullopt);
  budget.spent(plan.groups[0], 40);
  EXPECT_EQ(budget.left_out(plan.groups[1]), std::nullopt);
  budget.spent(plan.groups[1], 40);
  EXPECT_EQ(
      budget.left_out(plan.groups[2]),
      "left out: it would take about 40.0 s, and the configuration allows 100 s in all, of which 80.0 s are spent");
}

TEST(Budget, WhatFitsStillRunsLater) {
  RunPlan plan = make();
  expect(plan.groups[0], 200);
  expect(plan.groups[2], 60);
  Budget budget;
  EXPECT_NE(budget.left_out(plan.groups[0]), std::nullopt);
  EXPECT_EQ(budget.left_out(plan.groups[2]), std::nullopt);
}

TEST(Budget, LearnsThePaceOfTheMachine) {
  for (const auto& [seconds, fits] : {std::pair{95.0, false}, {45.0, true}, {10.0, true}}) {
    RunPlan plan = make();
    expect(plan.groups[0], 45);
    expect(plan.groups[2], 45);
    Budget budget;
    budget.spent(plan.groups[0], seconds);
    EXPECT_EQ(!budget.left_out(plan.groups[2]), fits) << seconds;
  }
  // Short groups do not tell the pace.
  RunPlan plan = make();
  expect(plan.groups[0], 0.01);
  expect(plan.groups[2], 45);
  Budget budget;
  budget.spent(plan.groups[0], 1);
  EXPECT_EQ(budget.left_out(plan.groups[2]), std::nullopt);
}

TEST(Budget, NothingIsComparedWithSelfAttentionThatWasLeftOut) {
  RunPlan plan = make();
  ASSERT_EQ(plan.groups[1].rows.size(), 1u) << "the baseline runs once";
  expect(plan.groups[0], 200);
  for (const std::size_t i : {1, 2, 3}) expect(plan.groups[i], 1);
  Budget budget;
  EXPECT_NE(budget.left_out(plan.groups[0]), std::nullopt);
  EXPECT_EQ(budget.left_out(plan.groups[1]), "left out with its self attention");
  EXPECT_EQ(budget.left_out(plan.groups[2]), std::nullopt);
  EXPECT_EQ(budget.left_out(plan.groups[3]), std::nullopt);
}

TEST(Budget, IsThatOfEachConfiguration) {
  RunPlan x = make("x"), y = make("y");
  expect(y.groups[0], 90);
  Budget budget;
  budget.spent(x.groups[0], 99);
  EXPECT_EQ(budget.left_out(y.groups[0]), std::nullopt);
}

TEST(Budget, IsUnlimitedUnlessNamed) {
  std::string text = kConfig;
  const std::string named = "timing: {budget_seconds: 100}\n";
  text.erase(text.find(named), named.size());
  RunPlan plan = make("x", text);
  expect(plan.groups[0], 1e9);
  Budget budget;
  EXPECT_EQ(budget.left_out(plan.groups[0]), std::nullopt);
}

TEST(Budget, ThePlanSaysWhatItLeavesOut) {
  RunPlan plan = make();
  for (Group& group : plan.groups) expect(group, 40);
  EXPECT_THAT(plan::summary(plan, 0), HasSubstr("  time    very roughly 80.0 s\n"
                                                "  budget  leaves out about 3 rows, by what the plan expects\n"));
  for (Group& group : plan.groups) expect(group, 20);
  EXPECT_THAT(plan::summary(plan, 0), HasSubstr("  time    very roughly 80.0 s\n"));
  EXPECT_THAT(plan::summary(plan, 0), Not(HasSubstr("budget  leaves out")));
}

}  // namespace
}  // namespace nalab
