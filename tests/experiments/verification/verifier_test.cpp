// Gradients compared with the oracle, as a whole and in a sample: right ones pass, and one wrong row is found.
#include "experiments/verification/verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/attention.h"
#include "experiments/plan/plan.h"
#include "experiments/runner/tensors.h"
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
      : tensors_(problem, config::RowPass::forward_backward, 1, context_.workers()) {
    settings_.verify = {.budget_seconds = budget_seconds, .sampled_queries = 20};
    row = plan::make_row(problem, find_variant(variant), config::RowPass::forward_backward, settings_,
                         {int64_t{1} << 40, 1});
    attention_forward(row.plans.at(0), tensors_.inputs(), tensors_.outputs(), context_);
    attention_backward(row.plans.at(1), tensors_.inputs(), tensors_.saved(), tensors_.gradients(), context_);
  }

  verification::VerificationResult verify() {
    return verification::Verifier(tensors_.all(), Pass::backward, context_.workers())
        .verify(row.problem, {row.verified_queries, row.gradient_sample, settings_.seed});
  }
  GroupTensors& tensors() { return tensors_; }

  plan::PlannedRow row;

 private:
  Context context_{2};
  config::Settings settings_;
  GroupTensors tensors_;
};

std::map<std::string, TensorView> by_name(const Problem& problem, Gradients gradients) {
  std::map<std::string, TensorView> named;
  visit_tensors(problem, gradients,
                [&](const TensorInfo& info, const TensorView& view) { named[std::string(info.name)] = view; });
  return named;
}

// All of the small problem; a sample of it with and without extra tokens.
constexpr double kBudgets[] = {1000, 0.001, 0};

TEST(Verification, RightGradientsPassInEveryVariantAndType) {
  for (const double budget : kBudgets) {
    for (const Variant& variant : variants()) {
      for (const ElementType type : test::kElementTypes) {
        Problem problem = test::problem_of(variant, small_problem());
        problem.type = type;
        if (variant.supports(problem, Pass::backward)) continue;
        Computed c(problem, std::string(variant.name), budget);
        EXPECT_EQ(c.row.gradient_sample.has_value(), budget < 1);
        const auto result = c.verify();
        EXPECT_TRUE(result.ok());
        EXPECT_EQ(result.failure(), "") << variant.name << " " << budget;
        EXPECT_GT(result.worst_frobenius().error, 0);
      }
    }
  }
}

TEST(Verification, AWrongRowAtACornerFails) {
  for (const double budget : {1000.0, 0.001}) {
    for (const bool last : {false, true}) {
      Computed c(small_problem(), "naive", budget);
      ASSERT_EQ(c.row.gradient_sample.has_value(), budget < 1);
      for (const auto& [name, view] : by_name(c.row.problem, c.tensors().gradients())) {
        float& element = static_cast<float*>(view.data)[last ? view.shape.elements() - 1 : 0];
        const float right = element;
        element += 1;
        EXPECT_THAT(c.verify().failure(), StartsWith(name + ": frobenius ")) << budget;
        element = right;
        EXPECT_EQ(c.verify().failure(), "");
      }
    }
  }
}

// Gradients have a bound of their own, five times that of outputs in float32.
TEST(Verification, GradientsMayBeOffByMoreThanOutputs) {
  Computed c(small_problem(), "naive", 1000);
  const TensorView dv = c.tensors().gradients().dv;
  const std::span elements(static_cast<float*>(dv.data), static_cast<std::size_t>(dv.shape.elements()));
  for (float& element : elements) element *= 1 + 5e-6f;
  EXPECT_EQ(c.verify().failure(), "");
  for (float& element : elements) element *= 1 + 1e-5f;
  EXPECT_THAT(c.verify().failure(), StartsWith("dv: frobenius "));
}

TEST(Verification, AWrongLseOrOutputFailsByItself) {
  for (const double budget : {1000.0, 0.001}) {
    Computed c(small_problem(), "naive", budget);
    for (const auto& [name, view] : {std::pair{"out", c.tensors().outputs().out}, {"lse", c.tensors().outputs().lse}}) {
      for (const int64_t corner : {int64_t{0}, view.shape.elements() - 1}) {
        float& element = static_cast<float*>(view.data)[corner];
        const float right = element;
        element += 0.01f;
        EXPECT_THAT(c.verify().failure(), StartsWith(std::string(name) + ": frobenius ")) << budget;
        EXPECT_EQ(c.verify().worst_max().tensor, name);
        element = right;
      }
    }
    EXPECT_EQ(c.verify().failure(), "");
  }
}

TEST(Verification, TheWorstErrorIsTheGreatestRelativeToItsBound) {
  using verification::TensorComparison;
  const auto compared = [](const char* name, double error, double bound) {
    Comparison comparison;
    comparison.frobenius = comparison.max_abs = error;
    comparison.bound = {bound, bound};
    return TensorComparison{name, comparison};
  };
  for (const bool dq_first : {true, false}) {
    std::vector<TensorComparison> tensors{compared("dq", 1.1e-6, 1e-6), compared("dv", 9e-6, 1e-5)};
    if (!dq_first) std::swap(tensors[0], tensors[1]);
    const verification::VerificationResult result{tensors, {}, 1};
    EXPECT_EQ(result.worst_frobenius().tensor, "dq");
    EXPECT_EQ(result.worst_frobenius().error, 1.1e-6);
    EXPECT_EQ(result.worst_max().tensor, "dq");
    EXPECT_EQ(result.worst_max().bound, 1e-6);
  }
}

TEST(Verification, AnUnwrittenGradientFails) {
  for (const double budget : {1000.0, 0.001}) {
    Computed c(small_problem(), "naive", budget);
    for (const auto& [name, view] : by_name(c.row.problem, c.tensors().gradients())) {
      auto* data = static_cast<float*>(view.data);
      const std::vector<float> right(data, data + view.shape.elements());
      std::fill(data, data + view.shape.elements(), std::numeric_limits<float>::quiet_NaN());
      EXPECT_THAT(c.verify().failure(), StartsWith(name + ": ")) << budget;
      std::copy(right.begin(), right.end(), data);
    }
  }
}

TEST(Verification, WhatTheBudgetDoesNotBearIsNamed) {
  Computed c(small_problem(), "naive", 0);
  EXPECT_EQ(c.row.gradient_sample->extra_tokens, 0);
  EXPECT_EQ(not_verified(c.verify()),
            "dextra_k and dextra_v were not verified: their oracle would take longer than the budget");
  EXPECT_EQ(not_verified(Computed(small_problem(), "naive", 0.001).verify()), "");
  Problem without = small_problem();
  without.extra_tokens = 0;
  EXPECT_EQ(not_verified(Computed(without, "naive", 0).verify()), "");
}

TEST(Verification, TheGradientOfABiasIsVerifiedAsAWholeOrInASample) {
  Problem problem = small_problem();
  problem.relative_bias = true;
  for (const double budget : {1000.0, 0.001}) {
    for (const char* variant : {"naive", "gemm", "reference"}) {
      Computed c(problem, variant, budget);
      ASSERT_EQ(c.row.gradient_sample.has_value(), budget < 1);
      EXPECT_EQ(c.verify().failure(), "") << variant << budget;
      EXPECT_EQ(not_verified(c.verify()), "");
    }
    Computed c(problem, "naive", budget);
    const TensorView drpb = c.tensors().gradients().drpb;
    for (const int64_t corner : {int64_t{0}, drpb.shape.elements() - 1}) {
      float& element = static_cast<float*>(drpb.data)[corner];
      const float right = element;
      element += 1;
      EXPECT_THAT(c.verify().failure(), StartsWith("drpb: frobenius ")) << budget << ' ' << corner;
      element = right;
    }
  }
  EXPECT_EQ(not_verified(Computed(problem, "naive", 0).verify()),
            "dextra_k, dextra_v and drpb were not verified: their oracle would take longer than the budget");
}

TEST(Verification, AScoreWithoutGradientIsNotGivenOneByTheRoundingOfWhatWasSaved) {
  for (const ElementType type : test::kElementTypes) {
    Problem problem = small_problem();
    for (Axis& axis : problem.axes) axis.window = axis.stride = 1;
    problem.extra_tokens = 0;
    problem.type = type;
    EXPECT_EQ(Computed(problem, "naive", 0).verify().failure(), "");
  }
}

}  // namespace
}  // namespace nalab
