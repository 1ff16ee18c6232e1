#include "core/plan.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "core/kernels/registry.h"
#include "core/simd/arithmetic.h"
#include "tests/core/kernels/support.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

const Problem kWindowed{.axes = {{.extent = 12, .window = 5}, {.extent = 20, .window = 7}},
                        .heads = 6,
                        .heads_kv = 2,
                        .head_dim = 16,
                        .head_dim_v = 24};

Problem with_type(Problem problem, ElementType type) {
  problem.type = type;
  return problem;
}

std::string refusal(const Problem& problem, const PlanOptions& options, Pass pass = Pass::forward) {
  return test::error_of([&] { make_plan(problem, pass, options); });
}

TEST(Plan, ChoosesTheBestOfEverything) {
  const test::ScopedEnvironment isa("NALAB_ISA"), arithmetic("NALAB_ARITHMETIC");
  isa.unset();
  arithmetic.unset();
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    const Plan plan = make_plan(kWindowed, pass);
    EXPECT_EQ(&plan.variant(), &best_variant(kWindowed, pass));
    EXPECT_EQ(plan.problem(), kWindowed);
    EXPECT_EQ(plan.pass(), pass);
    EXPECT_EQ(plan.isa(), best_isa());
    EXPECT_EQ(plan.arithmetic().name, kF32Fma);
    const Plan tiled = make_plan(kWindowed, pass, {.variant = "fused"});
    EXPECT_EQ(tiled.tiling(),
              tiled.variant().candidates(kWindowed, pass, tiled.arithmetic(), host_machine(), 1).front());
    EXPECT_EQ(plan, make_plan(kWindowed, pass, {.tiling = kBestTiling}));
  }
  isa.set("baseline");
  EXPECT_EQ(make_plan(kWindowed, Pass::forward).isa(), Isa::baseline);
  EXPECT_EQ(make_plan(kWindowed, Pass::forward, {.isa = best_isa()}).isa(), best_isa());
}

// They read the same keys, which are packed once for all of them.
TEST(Plan, QueryHeadsOfAKvHeadShareASuperTile) {
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    for (const auto& [heads, heads_kv] : {std::pair<int64_t, int64_t>{8, 2}, {8, 8}, {6, 2}, {8, 1}}) {
      Problem problem = kWindowed;
      problem.heads = heads;
      problem.heads_kv = heads_kv;
      for (const char* variant : {"fused", "gemm"}) {
        EXPECT_EQ(make_plan(problem, pass, {.variant = variant}).tiling().heads, heads / heads_kv) << problem.id();
      }
    }
  }
}

TEST(Plan, PrintsItsChoices) {
  const Machine machine{32 << 10, 1 << 20, 0};
  const PlanOptions options{.variant = "fused", .isa = Isa::baseline, .machine = &machine};
  const Plan plan = make_plan(kWindowed, Pass::forward, options);
  EXPECT_EQ(plan.to_string(), "fused forward f32_fma baseline " + plan.tiling_text() + " of " + kWindowed.id());
  EXPECT_EQ(parse_tiling(plan.tiling_text()), plan.tiling());
  const Plan naive = make_plan(kWindowed, Pass::backward, {.variant = "naive", .isa = Isa::baseline});
  EXPECT_FALSE(naive.has_tiling());
  EXPECT_EQ(naive.tiling_text(), "");
  EXPECT_EQ(naive.to_string(), "naive backward f32_fma baseline of " + kWindowed.id());
}

TEST(Plan, PlansOfDifferentChoicesDiffer) {
  Problem other = kWindowed;
  other.head_dim = 17;
  std::vector<Plan> plans{
      make_plan(kWindowed, Pass::forward, {.isa = Isa::baseline}),
      make_plan(kWindowed, Pass::backward, {.isa = Isa::baseline}),
      make_plan(other, Pass::forward, {.isa = Isa::baseline}),
      make_plan(kWindowed, Pass::forward, {.variant = "gemm", .isa = Isa::baseline}),
      make_plan(kWindowed, Pass::forward, {.tiling = kStaticTiling, .isa = Isa::baseline}),
      make_plan(kWindowed, Pass::forward, {.tiling = "q1x1x16_s1x1x1_kv1x1x1_l16_h1_b8", .isa = Isa::baseline})};
  if (best_isa() != Isa::baseline) plans.push_back(make_plan(kWindowed, Pass::forward, {.isa = best_isa()}));
  for (const Plan& a : plans) {
    for (const Plan& b : plans) EXPECT_EQ(a == b, &a == &b) << a.to_string() << " and " << b.to_string();
  }
}

TEST(Plan, DoesNotDependOnTheNumberOfThreads) {
  const test::ScopedEnvironment threads("NALAB_THREADS");
  for (const Variant& variant : variants()) {
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      const Problem problem = variant.self_attention_only ? kWindowed.self_attention() : kWindowed;
      if (variant.supports(problem, pass)) continue;
      threads.set("1");
      const Plan one = make_plan(problem, pass, {.variant = variant.name});
      threads.set("7");
      EXPECT_EQ(make_plan(problem, pass, {.variant = variant.name}), one);
      const int64_t each = one.workspace_bytes(2) - one.workspace_bytes(1);
      EXPECT_EQ(one.workspace_bytes(7), one.workspace_bytes(1) + 6 * each) << one.to_string();
    }
  }
}

TEST(Plan, TakesTheTilingsThatAreAskedFor) {
  const Plan fixed = make_plan(kWindowed, Pass::forward, {.tiling = kStaticTiling});
  EXPECT_TRUE(fixed.tiling().has_static_kv());
  for (const std::string text : {"q2x2x4_s1x2x2_kv1x1x1_l16_h3_b64", "q1x1x32_s16x1x1_kv3x1x2_l32_h1_b512",
                                 "q16x2x1_s1x1x1_kv1x1x1_l32_h1_b8"}) {
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      const Plan plan = make_plan(kWindowed, pass, {.variant = "fused", .tiling = text});
      EXPECT_EQ(plan.tiling_text(), text);
      EXPECT_GE(plan.executed_flops(), kWindowed.useful_flops(pass));
    }
  }
  const Machine small{8 << 10, 64 << 10, 0};
  EXPECT_NE(make_plan(kWindowed, Pass::forward, {.variant = "fused", .machine = &small}).tiling(),
            make_plan(kWindowed, Pass::forward, {.variant = "fused"}).tiling());
  // Without a name, a variant with tiles.
  EXPECT_EQ(make_plan(kWindowed, Pass::forward).variant_name(), "banded");
  EXPECT_EQ(fixed.variant_name(), "fused");
}

TEST(Plan, DenseFlattensOnlyTokensInARow) {
  const Problem problem = kWindowed.self_attention();
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    const Plan flat = make_plan(problem, pass, {.variant = "dense"});
    const Plan per_axis = make_plan(problem, pass, {.variant = "dense", .tokens_in_a_row = false});
    EXPECT_TRUE(flat.tiling().flat);
    EXPECT_FALSE(per_axis.tiling().flat);
    for (const Plan& plan : {flat, per_axis}) {
      EXPECT_GE(plan.executed_flops(), problem.useful_flops(pass));
      const std::string text = plan.tiling_text();
      EXPECT_EQ(make_plan(problem, pass, {.variant = "dense", .tiling = text}), plan);
    }
    const std::string text = flat.tiling_text();
    EXPECT_EQ(refusal(problem, {.variant = "dense", .tiling = text, .tokens_in_a_row = false}, pass),
              "tiling " + text + ": tokens must lie at one distance from each other to be flattened");
    EXPECT_FALSE(make_plan(problem, pass, {.variant = "fused"}).tiling().flat);
  }
}

TEST(Plan, RefusesProblemsVariantsAndInstructionSetsThatDoNotFit) {
  Problem bad = kWindowed;
  bad.heads_kv = 4;
  EXPECT_EQ(refusal(bad, {}), "heads_kv 4 must divide heads 6");
  EXPECT_EQ(refusal(kWindowed, {.variant = "fastest"}),
            "variant 'fastest' is none of fused, banded, dense, gemm, naive, reference, hopper, hopper_dense");
  EXPECT_EQ(refusal(kWindowed, {.variant = "dense"}), find_variant("dense").supports(kWindowed, Pass::forward));
  EXPECT_EQ(refusal(kWindowed, {.arithmetic = "f8_dot"}),
            "arithmetic 'f8_dot' is none of bf16_amx, f32_amx3, bf16_dot, f32_fma, f64_scalar, "
            "bf16_amx_emulated, f32_amx3_emulated, wgmma");
  for (const Isa isa : all_isas()) {
    const std::string expected =
        cpu_supports(isa) ? "" : "this CPU lacks the instruction set " + std::string(name(isa));
    EXPECT_EQ(refusal(kWindowed, {.isa = isa}), expected);
  }
}

struct BadTiling {
  const char* name;
  std::string_view variant;
  std::string_view tiling;
  const char* line;
};

void PrintTo(const BadTiling& bad, std::ostream* out) { *out << bad.name; }

class BadTilings : public ::testing::TestWithParam<BadTiling> {};

// Six query heads, three of each kv head.
TEST_P(BadTilings, AreRefusedWithThisLine) {
  const auto& [name, variant, tiling, line] = GetParam();
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    EXPECT_EQ(refusal(variant == "dense" ? kWindowed.self_attention() : kWindowed,
                      {.variant = variant, .tiling = tiling}, pass),
              line);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Plan, BadTilings,
    ::testing::Values(
        BadTiling{"text", "fused", "fast", "tiling 'fast' must be written as q1x4x8_s2x2x1_kv1x1x1_l32_h1_b256"},
        BadTiling{"no_tiles", "naive", "q1x4x8_s1x1x1_kv1x1x1_l32_h1_b256",
                  "tiling 'q1x4x8_s1x1x1_kv1x1x1_l32_h1_b256': variant naive has no tiles"},
        BadTiling{"no_tiles_static", "reference", "static", "tiling 'static': variant reference has no tiles"},
        BadTiling{"no_static", "gemm", "static", "variant gemm has no static KV tiling"},
        BadTiling{"no_static_dense", "dense", "static", "variant dense has no static KV tiling"},
        BadTiling{
            "lanes", "fused", "q1x1x8_s1x1x1_kv1x1x1_l8_h1_b256",
            "tiling q1x1x8_s1x1x1_kv1x1x1_l8_h1_b256: l must be 16 or 32, the lanes that kernels are written for"},
        BadTiling{"query_extent", "fused", "q1x1x33_s1x1x1_kv1x1x1_l32_h1_b256",
                  "tiling q1x1x33_s1x1x1_kv1x1x1_l32_h1_b256: no extent of q may exceed l"},
        BadTiling{"super_extent", "fused", "q1x1x32_s33x1x1_kv1x1x1_l32_h1_b256",
                  "tiling q1x1x32_s33x1x1_kv1x1x1_l32_h1_b256: no extent of s may exceed 32"},
        BadTiling{"kv_extent", "fused", "q1x1x32_s1x1x1_kv1x1025x1_l32_h1_b256",
                  "tiling q1x1x32_s1x1x1_kv1x1025x1_l32_h1_b256: no extent of kv may exceed 1024"},
        BadTiling{"query_product", "fused", "q1x4x4_s1x1x1_kv1x1x1_l32_h1_b256",
                  "tiling q1x4x4_s1x1x1_kv1x1x1_l32_h1_b256: the extents of q must multiply to l"},
        BadTiling{"heads", "fused", "q1x4x8_s1x1x1_kv1x1x1_l32_h2_b256",
                  "tiling q1x4x8_s1x1x1_kv1x1x1_l32_h2_b256: h must divide the 3 query heads of a kv head"},
        BadTiling{"heads_of_two_kv_heads", "gemm", "q1x4x8_s1x1x1_kv1x1x1_l32_h6_b256",
                  "tiling q1x4x8_s1x1x1_kv1x1x1_l32_h6_b256: h must divide the 3 query heads of a kv head"},
        BadTiling{"too_many_tiles", "fused", "q1x4x8_s4x3x1_kv1x1x1_l32_h3_b256",
                  "tiling q1x4x8_s4x3x1_kv1x1x1_l32_h3_b256: the extents of s and h must multiply to at most 32"},
        BadTiling{"block_no_multiple", "fused", "q1x4x8_s1x1x1_kv1x1x1_l32_h1_b250",
                  "tiling q1x4x8_s1x1x1_kv1x1x1_l32_h1_b250: b must be a multiple of 8 up to 512"},
        BadTiling{"block_too_large", "fused", "q1x4x8_s1x1x1_kv1x1x1_l32_h1_b520",
                  "tiling q1x4x8_s1x1x1_kv1x1x1_l32_h1_b520: b must be a multiple of 8 up to 512"},
        BadTiling{"flat", "fused", "flat_q1x1x32_s1x1x1_kv1x1x1_l32_h1_b256",
                  "tiling flat_q1x1x32_s1x1x1_kv1x1x1_l32_h1_b256: variant fused does not flatten layouts"},
        BadTiling{"explicit_static", "gemm", "q1x4x8_s1x1x1_kv1x4x8_l32_h1_b256",
                  "tiling q1x4x8_s1x1x1_kv1x4x8_l32_h1_b256: variant gemm has no static KV tiling"}),
    [](const auto& test) { return test.param.name; });

TEST(PlanArithmetic, IsTheOneAskedForWhereverItFits) {
  const test::ScopedEnvironment environment("NALAB_ARITHMETIC");
  environment.unset();
  for (const ElementType type : test::kElementTypes) {
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      const Problem problem = with_type(kWindowed, type);
      const bool dots = type == ElementType::bf16 && cpu_supports(Isa::avx512bf16);
      const std::string_view otherwise =
          make_plan(problem, pass, {.variant = "fused", .isa = best_isa()}).arithmetic().name;
      for (const std::string_view wanted : {kBf16Dot, kF32Fma, kF64Scalar}) {
        const std::string_view expected = wanted == kF32Fma || (wanted == kBf16Dot && dots) ? wanted : otherwise;
        const Plan plan = make_plan(problem, pass, {.variant = "fused", .arithmetic = wanted, .isa = best_isa()});
        EXPECT_EQ(plan.arithmetic().name, expected) << plan.to_string();
        environment.set(std::string(wanted));
        EXPECT_EQ(make_plan(problem, pass, {.variant = "fused", .isa = best_isa()}), plan) << "by NALAB_ARITHMETIC";
        environment.unset();
        EXPECT_EQ(make_plan(problem, pass, {.variant = "reference", .arithmetic = wanted}).arithmetic().name,
                  kF64Scalar);
        EXPECT_EQ(make_plan(problem, pass, {.variant = "fused", .arithmetic = wanted, .isa = Isa::baseline})
                      .arithmetic()
                      .name,
                  kF32Fma)
            << "the limit on instructions comes first";
      }
    }
  }
}

TEST(PlanArithmetic, OptionsComeBeforeTheEnvironmentAndUnknownNamesAreRefused) {
  const test::ScopedEnvironment environment("NALAB_ARITHMETIC");
  const Problem problem = with_type(kWindowed, ElementType::bf16);
  environment.set(std::string(kBf16Dot));
  EXPECT_EQ(make_plan(problem, Pass::forward, {.arithmetic = kF32Fma}).arithmetic().name, kF32Fma);
  environment.set("f8_dot");
  EXPECT_EQ(refusal(problem, {}),
            "arithmetic 'f8_dot' is none of bf16_amx, f32_amx3, bf16_dot, f32_fma, f64_scalar, "
            "bf16_amx_emulated, f32_amx3_emulated, wgmma");
  environment.set("");
  EXPECT_EQ(refusal(problem, {}), "");
}

}  // namespace
}  // namespace nalab
