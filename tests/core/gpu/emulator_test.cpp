// The kernel's arithmetic on the kernel's plan, against the definition.
#include "tests/core/gpu/emulator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/compare.h"
#include "core/kernels/reference/reference.h"
#include "tests/core/gpu/problems.h"
#include "tests/core/kernels/support.h"

namespace nalab::gpu {
namespace {

/// Compares out and lse; gives the rows that were rescaled.
int64_t expect_agreement(const Problem& problem, const TileShape& shape, const nalab::test::Data& data) {
  const Inputs inputs = data.inputs();
  const TilePlan plan = make_tile_plan(problem, shape);
  const test::Emulated got = test::emulate(plan, problem, inputs);
  const auto expected = reference::forward(problem, inputs);
  const Tolerance bound = tolerance(problem.type, TensorKind::output, expected.max_abs_score);
  const Comparison out = compare(std::span(got.out), std::span(expected.out), bound, 5);
  const Comparison lse = compare(std::span(got.lse), std::span(expected.lse), bound, 1);
  EXPECT_TRUE(out.ok) << out.to_string();
  EXPECT_TRUE(lse.ok) << lse.to_string();
  EXPECT_TRUE(std::ranges::all_of(got.writes, [](int writes) { return writes == 1; }));
  return got.rescaled;
}

/// Heads, channels and scales for a problem of a layout.
Problem with_heads(Problem problem, test::RandomPlanProblems& random) {
  problem.heads_kv = random.pick(1, 2);
  problem.heads = problem.heads_kv * (problem.heads_kv == 1 ? random.pick(1, 2) : 1);
  problem.head_dim = random.pick(1, 12);
  problem.head_dim_v = random.pick(1, 12);
  problem.batch = problem.tokens() < 100 ? 2 : 1;
  problem.type = random.pick(0, 1) == 0 ? ElementType::bf16 : ElementType::f16;
  if (random.pick(0, 3) == 0) problem.scale = static_cast<double>(random.pick(-3, 3)) / 4;
  return problem;
}

TEST(Emulator, AgreesWithTheReference) {
  test::RandomPlanProblems random(7);
  for (const Problem& layout : test::plan_problems()) {
    const Problem problem = with_heads(layout, random);
    const nalab::test::Data data(problem, 3);
    for (const TileShape& shape : test::some_shapes(problem, 0)) {
      SCOPED_TRACE(problem.id() + " " + to_string(shape));
      expect_agreement(problem, shape, data);
      if (HasFailure()) return;
    }
  }
}

/// One axis, and scores of steps log2(e) / sqrt(8) from one key to the next.
nalab::test::Data rising_scores(const Problem& problem, double step) {
  nalab::test::Data data(problem, 5);
  for (int64_t i = 0; i < data["k"].elements(); ++i) {
    nalab::test::set(data["k"], i, static_cast<double>(i / 8) * step);
    nalab::test::set(data["q"], i, 0.125);
  }
  return data;
}

/// Sums are rescaled when scores grow: in f16 again and again, in bf16 where they have grown a lot.
TEST(Emulator, RescalesWhenScoresGrow) {
  Problem problem{.axes = {{.extent = 500, .window = 401}}, .head_dim = 8, .head_dim_v = 8};
  for (const double sign : {1, -1}) {
    problem.type = ElementType::f16;
    int64_t rescaled = expect_agreement(problem, tile_shapes(problem, {}, 1).front(), rising_scores(problem, sign / 2));
    EXPECT_TRUE(sign > 0 ? rescaled >= 1000 : rescaled <= 500) << rescaled;
    problem.type = ElementType::bf16;
    rescaled = expect_agreement(problem, tile_shapes(problem, {}, 1).front(), rising_scores(problem, sign));
    EXPECT_TRUE(sign > 0 ? rescaled >= 500 : rescaled <= 500) << rescaled;
  }
}

/// So great that a reference is rounded by dozens, and sums of equal scores pass 2^64 without any growth.
TEST(Emulator, EqualScoresOfGreatMagnitude) {
  const Problem problem{
      .axes = {{.extent = 200, .window = 161}}, .head_dim = 8, .head_dim_v = 8, .type = ElementType::bf16};
  for (int great = 11000; great < 23000; great += 256) {  // scores of 5e8 to 2e9, log2
    SCOPED_TRACE(great);
    nalab::test::Data data(problem, 5);
    for (const std::string_view name : {"q", "k"}) {
      for (int64_t i = 0; i < data[name].elements(); ++i) nalab::test::set(data[name], i, great);
    }
    expect_agreement(problem, tile_shapes(problem, {}, 1).front(), data);
    if (HasFailure()) return;
  }
}

/// Faster than sums can be rescaled: such results are not trusted.
TEST(Emulator, ScoresThatGrowTooFastAreNoticed) {
  const Problem problem{
      .axes = {{.extent = 500, .window = 401}}, .head_dim = 8, .head_dim_v = 8, .type = ElementType::bf16};
  const nalab::test::Data data = rising_scores(problem, 16);
  const auto expected = reference::forward(problem, data.inputs());
  const TilePlan plan = make_tile_plan(problem, tile_shapes(problem, {}, 1).front());
  const test::Emulated got = test::emulate(plan, problem, data.inputs());
  int noticed = 0;
  for (std::size_t i = 0; i < got.lse.size(); ++i) {
    if (std::abs(got.lse[i]) <= largest_lse(problem)) {
      // Of a score: its products, scale, and way into an exponent of 2; of the sum: weights that are rounded to bf16.
      ASSERT_NEAR(got.lse[i], expected.lse[i], 16 * 0x1p-24 * std::abs(expected.lse[i]) + 0x1p-10);
    } else {
      ++noticed;
    }
  }
  EXPECT_GT(noticed, 0);
}

/// A masked key whose score is greater than the bias that masks it: what it spoils has an lse that is not trusted.
TEST(Emulator, HugeScoresOfMaskedKeysAreNoticed) {
  const Problem problem{.axes = {{.extent = 24, .window = 9}, {.extent = 24, .window = 9}},
                        .head_dim = 8,
                        .head_dim_v = 8,
                        .type = ElementType::bf16};
  for (const double huge : {1e32, -1e32}) {
    nalab::test::Data data(problem, 9);
    nalab::test::set(data["k"], 0, huge);
    const auto expected = reference::forward(problem, data.inputs());
    const double greatest_value = nalab::test::max_abs(nalab::test::to_double(data["v"].view()));
    for (const TileShape& shape : test::some_shapes(problem, 2)) {
      SCOPED_TRACE(to_string(shape));
      const test::Emulated got = test::emulate(make_tile_plan(problem, shape), problem, data.inputs());
      int spoiled = 0;
      for (std::size_t i = 0; i < got.lse.size(); ++i) {
        if (!(std::abs(got.lse[i]) <= largest_lse(problem))) {
          spoiled += std::abs(expected.lse[i]) < 1000 ? 1 : 0;
          continue;
        }
        // Weights and results are rounded to bf16.
        ASSERT_NEAR(got.lse[i], expected.lse[i], 0x1p-8);
        for (std::size_t c = 8 * i; c < 8 * i + 8; ++c)
          ASSERT_NEAR(got.out[c], expected.out[c], 0x1p-8 * greatest_value);
      }
      EXPECT_GT(spoiled, 0);
    }
  }
}

TEST(LargestLse, IsFarAboveOrdinaryOnesAtAnyScale) {
  Problem problem{.axes = {{.extent = 8}}, .scale = 0.125};
  EXPECT_FLOAT_EQ(largest_lse(problem), 1.25e19f);
  problem.scale = -0.125;
  EXPECT_FLOAT_EQ(largest_lse(problem), 1.25e19f);
  problem.scale = 0;
  EXPECT_FLOAT_EQ(largest_lse(problem), 100);
  problem.scale = 1e30;
  EXPECT_EQ(largest_lse(problem), std::numeric_limits<float>::max()) << "an infinity is not trusted";
}

}  // namespace
}  // namespace nalab::gpu
