// Rows with a relative bias, and rows of the operators on the weights themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "experiments/plan/announce.h"
#include "experiments/plan/plan.h"
#include "experiments/plan/shard.h"
#include "tests/experiments/support.h"

namespace nalab {
namespace {

using config::RowPass;
using experiments_test::load_text;
using plan::PlannedRow;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const plan::Resources kLarge{int64_t{1} << 40, 2};

Problem with_bias() {
  return {.axes = {{.extent = 12, .window = 5}, {.extent = 9, .window = 4, .causal = true}},
          .heads = 4,
          .heads_kv = 2,
          .head_dim = 8,
          .head_dim_v = 6,
          .extra_tokens = 3,
          .relative_bias = true};
}

PlannedRow row_of(const Problem& problem, const char* variant, RowPass pass, const config::Settings& settings = {}) {
  return plan::make_row(problem, find_variant(variant), pass, settings, kLarge);
}

std::vector<std::string> ids_of(const std::string& keys) {
  const plan::RunPlan plan = plan::make_run_plan({load_text("name: x\n" + keys)}, "", kLarge);
  std::vector<std::string> ids;
  for (const plan::Group& group : plan.groups) {
    for (const PlannedRow& row : group.rows) ids.push_back(row.id + " " + row.label);
  }
  return ids;
}

TEST(BiasPlan, ABiasStandsInTheIdAndNotInTheBaseline) {
  Problem without = with_bias();
  without.relative_bias = false;
  const PlannedRow row = row_of(with_bias(), "naive", RowPass::forward);
  EXPECT_EQ(row.id, without.id() + "_rpb.naive.forward");
  EXPECT_EQ(row.baseline, without.self_attention().id());
  EXPECT_EQ(row_of(with_bias(), "dense", RowPass::forward).problem, without.self_attention());
  const PlannedRow same = row_of(without, "naive", RowPass::forward);
  EXPECT_EQ(row.useful_flops, same.useful_flops);
  const int64_t table = 4 * 4 * (2 * 5 - 1) * (2 * 4 - 1);
  EXPECT_EQ(row.tensor_bytes, same.tensor_bytes + table);
  EXPECT_EQ(row.memory_bytes - row.workspace_bytes, same.memory_bytes - same.workspace_bytes + table);
}

TEST(BiasPlan, AProblemWithAndWithoutBiasSharesItsBaseline) {
  const std::string problem = "9_w3_s1_d1_c0_b1_h1_kv1_dk64_dv64_e0_f32";
  EXPECT_THAT(ids_of("variants: [dense, naive]\n"
                     "grids: [{label: a, layout: 9, window: 3, relative_bias: [true, false]}]\n"),
              ElementsAre("9_w9_s1_d1_c0_b1_h1_kv1_dk64_dv64_e0_f32.dense.forward self attention",
                          problem + "_rpb.naive.forward a", problem + ".naive.forward a"));
}

TEST(BiasPlan, SamplesEntriesOfTheGradientAsTheBudgetAllows) {
  Problem p = with_bias();
  for (Axis& axis : p.axes) axis.extent = 300;
  config::Settings settings;
  const auto sample = [&](double budget) {
    settings.verify = {.budget_seconds = budget, .sampled_queries = 20};
    return row_of(p, "naive", RowPass::forward_backward, settings).gradient_sample.value();
  };
  EXPECT_EQ(sample(0).offsets, 0);
  EXPECT_EQ(sample(5).offsets, 20);
  const int64_t some = sample(0.1).offsets;
  EXPECT_TRUE(some > 0 && some < 20) << some;
  p.relative_bias = false;
  EXPECT_EQ(sample(5).offsets, 0);
  p = {.axes = {{.extent = 400, .window = 1}}, .heads = 3, .relative_bias = true};
  EXPECT_EQ(sample(1e-3).offsets, 3) << "all that there are";
}

TEST(SplitPlan, HasOnePlanOfItsPass) {
  const Pass passes[] = {Pass::weights, Pass::weights_backward, Pass::values, Pass::values_backward};
  const RowPass row_passes[] = {RowPass::weights, RowPass::weights_backward, RowPass::values, RowPass::values_backward};
  for (int i = 0; i < 4; ++i) {
    for (const char* variant : {"naive", "gemm", "reference"}) {
      const PlannedRow row = row_of(with_bias(), variant, row_passes[i]);
      EXPECT_EQ(row.refusal, std::nullopt) << variant;
      ASSERT_EQ(row.plans.size(), 1u);
      EXPECT_EQ(row.plans[0].pass(), passes[i]);
      EXPECT_EQ(row.plans[0].problem(), row.problem);
      EXPECT_EQ(row.id, row.problem.id() + "." + variant + "." + name(passes[i]));
      EXPECT_EQ(row.useful_flops, row.problem.useful_flops(passes[i]));
      EXPECT_EQ(row.tensor_bytes, row.problem.tensor_bytes(passes[i]));
      EXPECT_EQ(row.total_queries, 12 * 9 * 4);
      EXPECT_EQ(row.verified_queries, row.total_queries);
      EXPECT_GT(row.seconds, 0);
    }
  }
}

TEST(SplitPlan, ValuesHaveNoBias) {
  const std::string problem = "9_w3_s1_d1_c0_b1_h1_kv1_dk64_dv64_e0_f32";
  EXPECT_THAT(ids_of("variants: gemm\npasses: [weights, values, values_backward]\n"
                     "grids: [{label: a, layout: 9, window: 3, relative_bias: [true, false]}]\n"),
              ElementsAre(problem + "_rpb.gemm.weights a", problem + ".gemm.values a",
                          problem + ".gemm.values_backward a", problem + ".gemm.weights a"));
}

TEST(SplitPlan, ValuesOfAWholeLayoutHaveTheBaselineOfTheProblemWithoutBias) {
  Problem p = with_bias().self_attention();
  const PlannedRow without = row_of(p, "naive", RowPass::values);
  p.relative_bias = true;
  const PlannedRow with = row_of(p, "naive", RowPass::values);
  EXPECT_EQ(with.id, without.id);
  EXPECT_EQ(with.baseline, without.baseline);
  EXPECT_EQ(row_of(p, "naive", RowPass::forward).baseline, p.id()) << "the table is that of the layout";
}

TEST(SplitPlan, MemoryCountsTheWeights) {
  const Problem p = with_bias();
  const PlannedRow row = row_of(p, "naive", RowPass::weights);
  const int64_t queries = 12 * 9 * 4, slots = 5 * 4 + 3;
  const int64_t tensors = 4 * (queries * 8 + (12 * 9 + 3) * 2 * 8 + queries * slots + 4 * 9 * 7);
  EXPECT_EQ(row.memory_bytes, tensors + 12 * queries * slots + row.workspace_bytes);
}

TEST(SplitPlan, AreRefusedByVariantsWithoutWeights) {
  for (const char* variant : {"fused", "dense"}) {
    Problem p = with_bias();
    p.relative_bias = false;
    const PlannedRow row = row_of(p, variant, RowPass::values_backward);
    EXPECT_EQ(row.refusal, std::string(variant) +
                               " never has the weights in memory: naive and gemm compute the pass values_backward");
    EXPECT_THAT(row.plans, IsEmpty());
    EXPECT_EQ(row.seconds, 0);
  }
}

TEST(SplitPlan, BeyondTheBudgetOutputsAreSampledAndGradientsAreNot) {
  config::Settings settings;
  settings.verify = {.budget_seconds = 0, .sampled_queries = 7};
  const PlannedRow weights = row_of(with_bias(), "naive", RowPass::weights, settings);
  EXPECT_EQ(weights.verified_queries, 7);
  EXPECT_FALSE(weights.gradient_sample.has_value());
  const PlannedRow backward = row_of(with_bias(), "naive", RowPass::weights_backward, settings);
  EXPECT_EQ(backward.verified_queries, 0);
  ASSERT_TRUE(backward.gradient_sample.has_value());
  plan::RunPlan plan;
  plan.groups.push_back({{backward}, settings});
  EXPECT_THAT(plan::listing(plan), HasSubstr("verify nothing, which would take longer than the budget, about "));
  EXPECT_THAT(plan::summary(plan, 0), HasSubstr("  verify  0 rows on all queries, 1 on a sample\n"));
}

TEST(SplitPlan, AreSharedAmongShards) {
  const config::Config config = load_text(
      "name: x\nvariants: [naive, gemm, fused]\npasses: [weights, weights_backward, values, values_backward]\n"
      "grids: [{layout: [[9, 9], [8, 8]], window: 3, relative_bias: [true, false]}]\n");
  const plan::RunPlan whole = plan::make_run_plan({config}, "", kLarge);
  int64_t rows = 0;
  for (int64_t index = 1; index <= 3; ++index) {
    plan::RunPlan share = whole;
    plan::take_shard(share, {.index = index, .count = 3});
    EXPECT_GT(share.rows(), 0);
    rows += share.rows();
  }
  EXPECT_EQ(rows, whole.rows());
}

}  // namespace
}  // namespace nalab
