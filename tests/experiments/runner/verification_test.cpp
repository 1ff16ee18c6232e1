// Gradients compared with the oracle, as a whole and in a sample: right ones pass, and one wrong row is found.
#include "experiments/runner/verification.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "experiments/plan/plan.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/kernels/support.h"

namespace nalab {
namespace {

using runner::GroupTensors;
using testing::StartsWith;

Problem small_problem() {
  Problem p;
  p.axes = {{.extent = 9, .window = 5, .stride = 2}, {.extent = 7, .window = 3, .dilation = 2, .causal = true}};
  p.batch = 2;
  p.heads = 4;
  p.heads_kv = 2;
  p.head_dim = 6;
  p.head_dim_v = 10;
  p.extra_tokens = 3;
  return p;
}

/// A group of one row, whose results a variant has computed.
class Computed {
 public:
  Computed(const Problem& problem, const std::string& variant, double budget_seconds)
      : tensors_(problem, config::RowPass::forward_backward, 1, workers_) {
    settings_.verify = {.budget_seconds = budget_seconds, .sampled_queries = 20};
    row = plan::make_row(problem, find_variant(variant), config::RowPass::forward_backward, settings_,
                         {int64_t{1} << 40, 1});
    attention_forward(variant, problem, tensors_.inputs(), tensors_.outputs(), workers_);
    attention_backward(variant, problem, tensors_.inputs(), tensors_.saved(), tensors_.gradients(), workers_);
  }

  runner::Verdict verify() { return runner::Verifier(tensors_, settings_, workers_).verify(row); }
  GroupTensors& tensors() { return tensors_; }

  plan::PlannedRow row;

 private:
  Workers workers_{2};
  config::Settings settings_;
  GroupTensors tensors_;
};

std::map<std::string, TensorView> by_name(const Gradients& g) {
  return {{"dq", g.dq}, {"dk", g.dk}, {"dv", g.dv}, {"dextra_k", g.dextra_k}, {"dextra_v", g.dextra_v}};
}

// All of the small problem; a sample of it with and without extra tokens.
constexpr double kBudgets[] = {1000, 0.001, 0};

TEST(Verification, RightGradientsPassInEveryVariantAndType) {
  for (const double budget : kBudgets) {
    for (const Variant& variant : variants()) {
      for (const ElementType type : test::kElementTypes) {
        Problem problem = test::problem_of(variant, small_problem());
        problem.type = type;
        Computed c(problem, std::string(variant.name), budget);
        EXPECT_EQ(c.row.gradient_sample.has_value(), budget < 1);
        const auto verdict = c.verify();
        EXPECT_EQ(verdict.failure, "") << variant.name << " " << budget;
        EXPECT_GT(verdict.error_frobenius, 0);
      }
    }
  }
}

TEST(Verification, AWrongRowAtACornerFails) {
  for (const double budget : {1000.0, 0.001}) {
    for (const bool last : {false, true}) {
      Computed c(small_problem(), "naive", budget);
      ASSERT_EQ(c.row.gradient_sample.has_value(), budget < 1);
      for (const auto& [name, view] : by_name(c.tensors().gradients())) {
        float& element = static_cast<float*>(view.data)[last ? view.shape.elements() - 1 : 0];
        const float right = element;
        element += 1;
        EXPECT_THAT(c.verify().failure, StartsWith(name + ": frobenius ")) << budget;
        element = right;
        EXPECT_EQ(c.verify().failure, "");
      }
    }
  }
}

TEST(Verification, AnUnwrittenGradientFails) {
  for (const double budget : {1000.0, 0.001}) {
    Computed c(small_problem(), "naive", budget);
    for (const auto& [name, view] : by_name(c.tensors().gradients())) {
      auto* data = static_cast<float*>(view.data);
      const std::vector<float> right(data, data + view.shape.elements());
      std::fill(data, data + view.shape.elements(), std::numeric_limits<float>::quiet_NaN());
      EXPECT_THAT(c.verify().failure, StartsWith(name + ": ")) << budget;
      std::copy(right.begin(), right.end(), data);
    }
  }
}

TEST(Verification, WhatTheBudgetDoesNotBearIsNamed) {
  Computed c(small_problem(), "naive", 0);
  EXPECT_EQ(c.row.gradient_sample->extra_tokens, 0);
  EXPECT_EQ(c.verify().not_verified,
            "dextra_k and dextra_v were not verified: their oracle would take longer than the budget");
  EXPECT_EQ(Computed(small_problem(), "naive", 0.001).verify().not_verified, "");
  Problem without = small_problem();
  without.extra_tokens = 0;
  EXPECT_EQ(Computed(without, "naive", 0).verify().not_verified, "");
}

TEST(Verification, AScoreWithoutGradientIsNotGivenOneByTheRoundingOfWhatWasSaved) {
  for (const ElementType type : test::kElementTypes) {
    Problem problem = small_problem();
    for (Axis& axis : problem.axes) axis.window = axis.stride = 1;
    problem.extra_tokens = 0;
    problem.type = type;
    EXPECT_EQ(Computed(problem, "naive", 0).verify().failure, "");
  }
}

TEST(ChosenKeys, AreSpreadOverTheTensorWithItsCorners) {
  const Problem p = small_problem();
  const auto keys = runner::choose_keys(p, 20, 1);
  EXPECT_GE(keys.size(), 20u);
  EXPECT_LE(keys.size(), 36u);
  std::set<std::array<int64_t, 5>> rows;
  for (const reference::Key& key : keys) {
    EXPECT_FALSE(key.extra);
    EXPECT_LT(key.batch, p.batch);
    EXPECT_LT(key.head_kv, p.heads_kv);
    rows.insert({key.batch, key.token[0], key.token[1], key.token[2], key.head_kv});
  }
  EXPECT_EQ(rows.size(), keys.size());
  EXPECT_TRUE(rows.contains({0, 0, 0, 0, 0}));
  EXPECT_TRUE(rows.contains({1, 0, 8, 6, 1}));
  EXPECT_EQ(runner::choose_keys(p, 1000, 1).size(), 2u * 9 * 7 * 2) << "all of them";
  const auto extra = runner::choose_extra_tokens(p, 1000, 1);
  EXPECT_EQ(extra.size(), 2u * 3 * 2);
  for (const reference::Key& key : extra) EXPECT_TRUE(key.extra);
  EXPECT_TRUE(runner::choose_extra_tokens(p, 0, 1).empty());
}

}  // namespace
}  // namespace nalab
