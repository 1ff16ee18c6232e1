#include "experiments/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "experiments/config/where.h"
#include "tests/experiments/support.h"
#include "tests/source_folder.h"

namespace nalab {
namespace {

using config::Form;
using experiments_test::load_text;
using testing::ElementsAre;

std::vector<std::string> ids(const config::Config& config) {
  std::vector<std::string> list;
  for (const config::ProblemSettings& p : config.problems) list.push_back(p.problem(ElementType::f32).id());
  return list;
}

TEST(Config, ReadsEveryField) {
  const config::Config c = load_text(R"(
name: all-1.0_b
table: t
about: one line
timing: {warmups: 2, min_samples: 3, max_samples: 4, min_seconds: 0.5, max_seconds: 1e1}
verify: {budget_seconds: 7, sampled_queries: 9}
store: {tensors: all}
seed: 12
variants: [naive, dense]
types: [f16, f32]
passes: [forward_backward, forward]
baseline: naive
problems:
  - label: everything
    layout: [12, 9]
    window: [4, 3]
    stride: [2, 1]
    dilation: [3, 2]
    causal: [true, 0]
    batch: 2
    heads: 6
    heads_kv: 3
    head_dim: 5
    head_dim_v: 7
    extra_tokens: 4
    relative_bias: true
    scale: -0.25
)");
  EXPECT_EQ(c.title.name, "all-1.0_b");
  EXPECT_EQ(c.title.table, "t");
  EXPECT_EQ(c.title.about, "one line");
  EXPECT_EQ(c.settings.timing.warmups, 2);
  EXPECT_EQ(c.settings.timing.min_samples, 3);
  EXPECT_EQ(c.settings.timing.max_samples, 4);
  EXPECT_EQ(c.settings.timing.min_seconds, 0.5);
  EXPECT_EQ(c.settings.timing.max_seconds, 10);
  EXPECT_EQ(c.settings.verify.budget_seconds, 7);
  EXPECT_EQ(c.settings.verify.sampled_queries, 9);
  EXPECT_EQ(c.settings.store.tensors, config::TensorStorage::all);
  EXPECT_EQ(c.settings.seed, 12);
  EXPECT_THAT(c.settings.variants, ElementsAre("naive", "dense"));
  EXPECT_THAT(c.settings.types, ElementsAre(ElementType::f16, ElementType::f32));
  EXPECT_THAT(c.settings.passes, ElementsAre(config::RowPass::forward_backward, config::RowPass::forward));
  EXPECT_EQ(c.settings.baseline, "naive");
  EXPECT_EQ(c.problems.at(0).label, "everything");
  EXPECT_THAT(ids(c), ElementsAre("12x9_w4x3_s2x1_d3x2_c1x0_b2_h6_kv3_dk5_dv7_e4_scale-0.25_f32_rpb"));
}

TEST(Config, OneValueStandsForAllAxesAndDefaultsFollow) {
  const config::Config c = load_text(
      "name: x\nvariants: naive\nproblems: [{layout: [8, 9, 10], window: 4, stride: 2, heads: 6, head_dim: 24}]\n");
  EXPECT_THAT(ids(c), ElementsAre("8x9x10_w4x4x4_s2x2x2_d1x1x1_c0x0x0_b1_h6_kv6_dk24_dv24_e0_f32"));
}

TEST(Config, AllStandsForEveryVariantWhoseDeviceIsHere) {
  const config::Config c = load_text("name: x\nvariants: all\nproblems: [{layout: 8, window: 3}]\n");
  EXPECT_THAT(c.settings.variants, ElementsAre("fused", "banded", "dense", "gemm", "naive", "reference"));
}

TEST(Config, QuickFormOverridesWhatItNames) {
  const char* text = R"(
name: x
variants: [naive, dense]
types: [f32, bf16]
timing: {min_samples: 9, max_seconds: 5}
quick: {types: [bf16], timing: {max_seconds: 1}}
problems: [{layout: [64, 64], window: 9, heads: 2, quick: {layout: [16, 16], batch: 3}}]
grids: [{layout: [100, 200], window: [3, 5], quick: {layout: 10}}]
)";
  const config::Config full = load_text(text);
  const config::Config quick = load_text(text, Form::quick);
  EXPECT_THAT(full.settings.types, ElementsAre(ElementType::f32, ElementType::bf16));
  EXPECT_THAT(quick.settings.types, ElementsAre(ElementType::bf16));
  EXPECT_THAT(quick.settings.variants, ElementsAre("naive", "dense"));
  EXPECT_EQ(quick.settings.timing.max_seconds, 1);
  EXPECT_EQ(quick.settings.timing.min_samples, 9);
  EXPECT_EQ(full.problems.size(), 5u);
  EXPECT_THAT(ids(quick),
              ElementsAre("16x16_w9x9_s1x1_d1x1_c0x0_b3_h2_kv2_dk64_dv64_e0_f32",
                          "10_w3_s1_d1_c0_b1_h1_kv1_dk64_dv64_e0_f32", "10_w5_s1_d1_c0_b1_h1_kv1_dk64_dv64_e0_f32"));
}

TEST(Config, GridIsTheCrossProductInTheOrderOfTheFile) {
  const config::Config c = load_text(R"(
name: x
variants: naive
grids:
  - layout: [[9, 8], [16, 16]]
    dilation: [1, 3]
    window: [3, [5, 2]]
    label: a grid
    head_dim: 8
    where: ["window * dilation <= layout", "window < 6"]
)");
  // 9x8 with dilation 3 has no room for three positions along the second axis, nor for five along the first.
  const std::string rest = "_c0x0_b1_h1_kv1_dk8_dv8_e0_f32";
  EXPECT_THAT(ids(c),
              ElementsAre("9x8_w3x3_s1x1_d1x1" + rest, "9x8_w5x2_s1x1_d1x1" + rest, "16x16_w3x3_s1x1_d1x1" + rest,
                          "16x16_w5x2_s1x1_d1x1" + rest, "16x16_w3x3_s1x1_d3x3" + rest, "16x16_w5x2_s1x1_d3x3" + rest));
  for (const config::ProblemSettings& p : c.problems) EXPECT_EQ(p.label, "a grid");
}

TEST(Where, HoldsOnEveryAxis) {
  Problem p;
  p.axes = {{.extent = 12, .window = 4, .stride = 2, .dilation = 3}, {.extent = 9, .window = 9, .causal = true}};
  p.heads = 6;
  p.heads_kv = 2;
  const struct {
    const char* condition;
    bool expected;
  } cases[] = {
      {"window * dilation <= layout", true},
      {"window * dilation < layout", false},
      {"window == layout", false},
      {"window != layout", false},
      {"stride <= window", true},
      {"heads % heads_kv == 0", true},
      {"heads / heads_kv / 2 == 1", true},
      {"2 + 3 * 4 == 14", true},
      {"(2 + 3) * 4 == 20", true},
      {"10 - 3 - 2 == 5", true},
      {"10 - 3 - 2 >= 6", false},
      {"7/2==3", true},
      {"causal == 0", false},
      {"rank == 2", true},
      {"batch + extra_tokens + head_dim - head_dim_v > 0", true},
      {"relative_bias == 0", true},
      {"relative_bias * window > 0", false},
      {"dilation > 0", true},
      {"1 > dilation", false},
      {"tokens == 108", true},
      {"keys == 36", true},
      {"batch * heads * tokens * keys * head_dim < 2000000", true},
  };
  for (const auto& [condition, expected] : cases) EXPECT_EQ(config::holds(condition, p), expected) << condition;
}

TEST(Config, ResolvedTextLoadsAsTheSameConfiguration) {
  const config::Config c = load_text(R"(
name: x
about: "quotes \" and: colons # and 'more'"
variants: all
timing: {min_seconds: 0.1}
types: [bf16]
problems: [{label: "[a] 1: b", layout: [12, 9], window: 3, causal: [true, false], scale: 0.1}]
grids: [{layout: 8, window: [3, 5], relative_bias: [false, true], where: "window * relative_bias != 5"}]
runs: [{}, {labels: "[a] 1: b", variants: [gemm, all], device: cpu, passes: [weights, values_backward]}]
)");
  EXPECT_THAT(ids(c), testing::Contains("8_w3_s1_d1_c0_b1_h1_kv1_dk64_dv64_e0_f32_rpb"));
  EXPECT_EQ(c.problems.size(), 4u);
  const std::string text = config::resolved(c);
  const config::Config again = load_text(text);
  EXPECT_EQ(config::resolved(again), text);
  EXPECT_EQ(again.title.about, "quotes \" and: colons # and 'more'");
  EXPECT_EQ(again.problems.at(0).label, "[a] 1: b");
  EXPECT_EQ(ids(again), ids(c));
  EXPECT_NE(text.find("min_seconds: 0.1,"), std::string::npos) << text;
}

const char* kSimulations = R"(
name: x
table: c
simulations:
  - {layout: 32, window: 8, q_tile: 4, kv_tile: 2}
  - table: t
    label: shared
    layout: [30, 48]
    window: [18, 24]
    dilation: [1, 2]
    causal: [true, false]
    extra_tokens: 5
    q_tile: [4, 8]
    kv_tile: 2
    kv_tiling: dynamic
    tiles_note: made up
    attention_share: 0.5
    steps: 7
    dense_steps: 2
    round_speedup: true
    rows:
      - {stride: [16, 8], published: {flops: 1.5, simulated: 1.25, actual: 1.125}, exception: why}
      - {window: 5, label: own, dense_steps: 0, round_speedup: false}
)";

TEST(Config, ReadsSimulations) {
  const config::Config c = load_text(kSimulations);
  EXPECT_TRUE(c.problems.empty());
  ASSERT_EQ(c.simulations.size(), 3u);
  EXPECT_EQ(c.simulations[0].table, "c");
  EXPECT_EQ(c.simulations[0].kv_tiling, simulator::KvTiling::static_tiles);
  EXPECT_EQ(c.simulations[0].published.flops, std::nullopt);
  EXPECT_EQ(c.simulations[0].application.attention_share, 1);
  const config::SimulationSettings& s = c.simulations[1];
  EXPECT_EQ(s.table, "t");
  EXPECT_EQ(s.problem.label, "shared");
  EXPECT_EQ(s.problem.problem(ElementType::f32).id(), "30x48_w18x24_s16x8_d1x2_c1x0_b1_h1_kv1_dk64_dv64_e5_f32");
  EXPECT_THAT(s.q_tile, ElementsAre(4, 8));
  EXPECT_THAT(s.kv_tile, ElementsAre(2, 2));
  EXPECT_EQ(s.kv_tiling, simulator::KvTiling::dynamic_tiles);
  EXPECT_EQ(s.tiles_note, "made up");
  EXPECT_EQ(s.application.attention_share, 0.5);
  EXPECT_EQ(s.application.steps, 7);
  EXPECT_EQ(s.application.dense_steps, 2);
  EXPECT_TRUE(s.round_speedup);
  EXPECT_EQ(s.published.flops, 1.5);
  EXPECT_EQ(s.published.simulated, 1.25);
  EXPECT_EQ(s.published.actual, 1.125);
  EXPECT_EQ(s.exception, "why");
  const config::SimulationSettings& own = c.simulations[2];
  EXPECT_EQ(own.problem.label, "own");
  EXPECT_THAT(own.problem.window, ElementsAre(5, 5));
  EXPECT_THAT(own.problem.stride, ElementsAre(1, 1));
  EXPECT_EQ(own.application.dense_steps, 0);
  EXPECT_FALSE(own.round_speedup);
  EXPECT_EQ(own.published.actual, std::nullopt);
  EXPECT_EQ(own.exception, "");

  const std::string resolved = config::resolved(c);
  const config::Config again = load_text(resolved);
  EXPECT_EQ(config::resolved(again), resolved);
  EXPECT_EQ(again.simulations.size(), 3u);
  EXPECT_EQ(again.simulations[1].published.simulated, 1.25);
}

TEST(Config, KeepsTheTextAsItIs) {
  const std::string text = "name: x # comment\nvariants: naive\nproblems: [{layout: 8, window: 3}]\n";
  EXPECT_EQ(config::stored(load_text(text)).text, text);
}

TEST(Config, ShippedConfigurationsLoadInBothForms) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_folder() + "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    for (const Form form : {Form::full, Form::quick}) {
      const config::Config c = config::load(entry.path().string(), form);
      EXPECT_EQ(c.title.name, entry.path().stem().string());
      EXPECT_FALSE(c.title.about.empty());
    }
  }
  EXPECT_GE(count, 3);
}

}  // namespace
}  // namespace nalab
