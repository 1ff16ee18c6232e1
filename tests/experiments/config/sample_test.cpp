// Runs and their samples: which problems, types and passes each asks for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "experiments/plan/plan.h"
#include "tests/experiments/support.h"

namespace nalab {
namespace {

using config::Form;
using config::RowPass;
using experiments_test::load_text;
using testing::ElementsAre;

/// 60 problems with head_dim 8, 30 with 16 and 10 with 32.
config::Config hundred(const std::string& settings) {
  std::string dilations = "[1";
  for (int d = 2; d <= 60; ++d) dilations += ", " + std::to_string(d);
  return load_text("name: x\nvariants: naive\n" + settings +
                   "\ngrids:\n- {layout: 600, window: 3, head_dim: [8, 16, 32], "
                   "dilation: " +
                   dilations +
                   "], where: ['dilation * head_dim <= 480', 'dilation * head_dim * head_dim <= 10240']}\n");
}

std::vector<std::string> ids_of(const config::Config& config, std::size_t run) {
  std::vector<std::string> ids;
  for (const auto* problem : config::select(config, config.settings.runs.at(run)).problems) {
    ids.push_back(problem->problem(ElementType::f32).id());
  }
  return ids;
}

TEST(Runs, OneOfAllProblemsWhereNoneIsListed) {
  const config::Config c = load_text(
      "name: x\nvariants: naive\ntypes: [f32, bf16]\npasses: forward_backward\n"
      "problems: [{layout: 8, window: 3}, {layout: 9, window: 3}]\n");
  ASSERT_EQ(c.settings.runs.size(), 1u);
  const config::Selection all = config::select(c, c.settings.runs[0]);
  EXPECT_THAT(all.types, ElementsAre(ElementType::f32, ElementType::bf16));
  EXPECT_THAT(all.passes, ElementsAre(RowPass::forward_backward));
  EXPECT_THAT(all.problems, ElementsAre(&c.problems[0], &c.problems[1]));
}

TEST(Runs, EachHasItsTypesAndPassesOrThoseOfTheSettings) {
  const char* text = R"(
name: x
variants: naive
types: [f32, f16]
runs: [{}, {types: bf16, passes: [forward, forward_backward]}]
quick: {runs: {types: f16}}
problems: [{layout: 8, window: 3}]
)";
  const auto rows = [&](Form form) {
    const plan::RunPlan plan = plan::make_run_plan({load_text(text, form)}, "", {int64_t{1} << 40, 1});
    std::vector<std::string> ids;
    for (const plan::Group& group : plan.groups) {
      for (const plan::PlannedRow& row : group.rows) {
        ids.push_back(std::string(name(row.problem.type)) + " " + config::name(row.pass));
      }
    }
    return ids;
  };
  EXPECT_THAT(rows(Form::full), ElementsAre("f32 forward", "f16 forward", "bf16 forward", "bf16 forward_backward"));
  EXPECT_THAT(rows(Form::quick), ElementsAre("f16 forward"));
}

TEST(Runs, CanBeOfSomeLabelsAndVariants) {
  const config::Config c = load_text(R"(
name: x
variants: [dense, naive]
runs: [{labels: [b, a], variants: gemm}, {labels: b, sample: {count: 1}}, {variants: all}]
problems: [{label: a, layout: 8, window: 3}, {label: b, layout: 8, window: 4}, {label: b, layout: 8, window: 5},
           {layout: 8, window: 6}]
)");
  const auto selected = [&](std::size_t run) { return config::select(c, c.settings.runs.at(run)); };
  EXPECT_THAT(selected(0).problems, ElementsAre(&c.problems[0], &c.problems[1], &c.problems[2])) << "in their order";
  EXPECT_THAT(selected(0).variants, ElementsAre("gemm"));
  ASSERT_EQ(selected(1).problems.size(), 1u);
  EXPECT_EQ(selected(1).problems[0]->label, "b") << "a sample of those alone";
  EXPECT_THAT(selected(1).variants, ElementsAre("dense", "naive"));
  EXPECT_THAT(selected(2).variants, ElementsAre("fused", "banded", "dense", "gemm", "naive", "reference"));
  EXPECT_EQ(selected(2).problems.size(), 4u);
}

TEST(Runs, OnADeviceHaveTheVariantsThatComputeThere) {
  const config::Config c = load_text(
      "name: x\nvariants: [dense, hopper_dense, hopper, naive]\n"
      "runs: [{device: cuda}, {device: cpu}, {}, {device: cuda, variants: all}]\n"
      "problems: [{layout: 9, window: 3}]\n");
  const auto variants = [&](std::size_t run) { return config::select(c, c.settings.runs.at(run)).variants; };
  EXPECT_THAT(variants(0), ElementsAre("hopper_dense", "hopper"));
  EXPECT_THAT(variants(1), ElementsAre("dense", "naive"));
  EXPECT_THAT(variants(2), ElementsAre("dense", "hopper_dense", "hopper", "naive"));
  EXPECT_THAT(variants(3), ElementsAre("hopper", "hopper_dense")) << "whether it is here or not";
}

TEST(Runs, OfTheQuickFormHaveTheLabelsOfTheQuickForm) {
  const std::string text =
      "name: x\nvariants: naive\nquick: {runs: {labels: small}}\n"
      "problems: [{label: large, layout: 99, window: 3, quick: {label: small, layout: 9}}]\n";
  EXPECT_EQ(load_text(text, Form::quick).problems.at(0).label, "small");
  EXPECT_EQ(load_text(text, Form::full).problems.at(0).label, "large");
}

TEST(Sample, TakesItsShareOfEachStratum) {
  const config::Config c = hundred("runs: {sample: {count: 20, strata: head_dim}}");
  ASSERT_EQ(c.problems.size(), 100u);
  std::map<int64_t, int> counts;
  std::set<const config::ProblemSettings*> different;
  for (const auto* problem : config::select(c, c.settings.runs[0]).problems) {
    ++counts[problem->head_dim];
    different.insert(problem);
  }
  EXPECT_EQ(counts, (std::map<int64_t, int>{{8, 12}, {16, 6}, {32, 2}}));
  EXPECT_EQ(different.size(), 20u);
}

TEST(Sample, DependsOnItsSeedAlone) {
  const config::Config c = hundred(R"(
runs:
  - sample: {count: 20, strata: [head_dim]}
  - {types: f16, sample: {count: 20, strata: head_dim}}
  - sample: {count: 20, strata: [head_dim], seed: 2}
)");
  EXPECT_EQ(ids_of(c, 0), ids_of(c, 1));
  EXPECT_NE(ids_of(c, 0), ids_of(c, 2));
  // The choice must be the same on every machine, today and later.
  const std::vector<std::string> ids = ids_of(c, 0);
  EXPECT_EQ(ids.front(), "600_w3_s1_d6_c0_b1_h1_kv1_dk8_dv8_e0_f32");
  EXPECT_EQ(ids.back(), "600_w3_s1_d5_c0_b1_h1_kv1_dk32_dv32_e0_f32");
}

TEST(Sample, KeepsTheOrderOfTheProblems) {
  const config::Config c = hundred("runs: {sample: {count: 50, strata: [head_dim, dilation]}}");
  const auto problems = config::select(c, c.settings.runs[0]).problems;
  EXPECT_EQ(problems.size(), 50u);
  EXPECT_TRUE(std::is_sorted(problems.begin(), problems.end()));
}

TEST(Sample, OfMoreProblemsThanThereAreIsAll) {
  for (const char* count : {"100", "101", "9223372036854775807"}) {
    const config::Config c = hundred(std::string("runs: {sample: {count: ") + count + "}}");
    EXPECT_EQ(ids_of(c, 0).size(), 100u) << count;
  }
  EXPECT_EQ(ids_of(hundred("runs: {sample: {count: 99}}"), 0).size(), 99u);
  EXPECT_EQ(ids_of(hundred("runs: {sample: {count: 1}}"), 0).size(), 1u);
}

TEST(Sample, IsTheSameOfTheResolvedConfiguration) {
  const config::Config c =
      hundred("runs: [{types: f16, sample: {count: 7, seed: 3, strata: [dilation]}}, {passes: forward}]");
  const config::Config again = load_text(config::resolved(c));
  EXPECT_EQ(config::resolved(again), config::resolved(c));
  EXPECT_EQ(ids_of(again, 0), ids_of(c, 0));
  EXPECT_EQ(ids_of(again, 1).size(), 100u);
}

TEST(Sample, StrataCanBeOfAnyKey) {
  std::string keys;
  for (const std::string& key : config::stratum_keys()) keys += (keys.empty() ? "" : ", ") + key;
  const config::Config c = load_text("name: x\nvariants: naive\nruns: {sample: {count: 2, strata: [" + keys +
                                     "]}}\nproblems: [{layout: [8, 9], window: 3, causal: true, scale: 0.5}, "
                                     "{layout: 8, window: 3, heads: 4, heads_kv: 2}, {layout: 9, window: 3}]\n");
  EXPECT_EQ(ids_of(c, 0).size(), 2u);
}

}  // namespace
}  // namespace nalab
