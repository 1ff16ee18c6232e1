#include "core/kernels/registry.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/kernels/support.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

const Problem kSelfAttention{.axes = {{.extent = 6, .window = 6}}, .head_dim = 8, .head_dim_v = 8};
const Problem kWindowed{.axes = {{.extent = 6, .window = 3}}, .head_dim = 8, .head_dim_v = 8};
const Problem kBiased{.axes = {{.extent = 6, .window = 3}}, .head_dim = 8, .head_dim_v = 8, .relative_bias = true};

TEST(Registry, InOrderOfPreferenceAndEveryNameOnce) {
  std::string order;
  std::set<std::string_view> names;
  for (const Variant& variant : variants()) {
    EXPECT_TRUE(names.insert(variant.name).second) << variant.name;
    EXPECT_FALSE(variant.paper_term.empty()) << variant.name;
    EXPECT_FALSE(variant.summary.empty()) << variant.name;
    EXPECT_EQ(&find_variant(variant.name), &variant);
    EXPECT_GT(variant.expected_flops_per_second, 0) << variant.name;
    order += std::string(variant.name) + (variant.is_oracle ? " (oracle) " : " ");
  }
  EXPECT_EQ(order, "fused banded dense gemm naive reference (oracle) hopper hopper_dense ");
}

TEST(Registry, UnknownNamesAreRefusedWithTheList) {
  std::string names;
  for (const Variant& variant : variants()) names += (names.empty() ? "" : ", ") + std::string(variant.name);
  for (const std::string text : {"", "Reference", "no such variant"}) {
    EXPECT_EQ(test::error_of([&] { find_variant(text); }), "variant '" + text + "' is none of " + names);
  }
}

TEST(Registry, EveryVariantComputesSelfAttentionAndSaysWhyNotTheRest) {
  for (const Variant& variant : variants()) {
    if (variant.device != Device::cpu) continue;
    for (ElementType type : test::kElementTypes) {
      for (Problem problem : {kSelfAttention, kWindowed}) {
        problem.type = type;
        const auto forward = variant.supports(problem, Pass::forward);
        if (problem.is_self_attention() || !variant.self_attention_only) {
          EXPECT_FALSE(forward.has_value()) << variant.name << ": " << forward.value_or("");
        }
        const auto backward = variant.supports(problem, Pass::backward);
        EXPECT_NE(forward, "") << variant.name;
        EXPECT_NE(backward, "") << variant.name;
        EXPECT_TRUE(variant.forward != nullptr);
        EXPECT_TRUE(backward.has_value() || variant.backward != nullptr) << variant.name;
      }
    }
    EXPECT_EQ(variant.self_attention_only, variant.supports(kWindowed, Pass::forward).has_value()) << variant.name;
  }
}

TEST(Registry, ExecutedFlopsAreAtLeastTheUsefulOnes) {
  for (const Variant& variant : variants()) {
    for (Pass pass : kPasses) {
      for (const Problem& problem : {kSelfAttention, kWindowed, kBiased}) {
        if (variant.supports(problem, pass)) continue;
        for (const test::Setting& setting : test::settings(variant, problem, pass)) {
          const Plan plan = test::plan_of(variant, problem, pass, setting);
          EXPECT_GE(plan.executed_flops(), problem.useful_flops(pass)) << plan.to_string();
          EXPECT_GE(plan.workspace_bytes(1), 0) << plan.to_string();
          EXPECT_GE(plan.workspace_bytes(8), plan.workspace_bytes(1)) << plan.to_string();
        }
      }
    }
  }
}

// As measured: docs/small_windows.md, "Where bands end".
TEST(Registry, TheBestVariantIsBandedForSmallWindowsAndElseFused) {
  const auto best = [](const Problem& problem, Pass pass = Pass::forward) { return best_variant(problem, pass).name; };
  const auto plane = [](int64_t window, int64_t dim, int64_t stride = 1) {
    const Axis axis{.extent = 56, .window = window, .stride = stride};
    return Problem{.axes = {axis, axis}, .head_dim = dim, .head_dim_v = dim};
  };
  const auto row = [](int64_t window) { return Problem{.axes = {{.extent = 4096, .window = window}}}; };
  const Axis five{.extent = 32, .window = 5};
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    EXPECT_EQ(best(plane(7, 32), pass), "banded");
    EXPECT_EQ(best(plane(7, 128), pass), "banded");
    EXPECT_EQ(best({.axes = {five, five, five}}, pass), "banded");
    EXPECT_EQ(best(row(5), pass), "banded");
    EXPECT_EQ(best(plane(7, 64, 7), pass), "banded") << "shared windows of few keys";
    EXPECT_EQ(best(plane(13, 64, 8), pass), "fused") << "shared windows of many keys";
    EXPECT_EQ(best(plane(31, 32), pass), "fused") << "many keys";
    EXPECT_EQ(best(row(128), pass), "fused") << "many keys along one axis";
  }
  EXPECT_EQ(best(plane(17, 64)), "banded");
  EXPECT_EQ(best(plane(17, 64), Pass::backward), "banded");
  EXPECT_EQ(best(plane(18, 64)), "banded");
  EXPECT_EQ(best(plane(18, 64), Pass::backward), "fused") << "fewer keys pay backward";
  EXPECT_EQ(best(plane(17, 128)), "fused") << "and in wide rows";
  EXPECT_EQ(best(plane(3, 256)), "banded");
  EXPECT_EQ(best(plane(3, 256), Pass::backward), "naive") << "wide rows of few keys";
  const Axis eight{.extent = 8, .window = 5};
  const Problem short_axes{.axes = {eight, eight, eight}};
  EXPECT_EQ(best(short_axes), "fused") << "half of the lanes are idle, and tiles waste little";
  EXPECT_EQ(best({.axes = short_axes.axes, .heads = 2, .heads_kv = 2}), "banded");
  Problem extra = plane(7, 32);
  extra.extra_tokens = 500;
  EXPECT_EQ(best(extra), "fused") << "mostly extra tokens";
}

// As measured: docs/matrix_unit.md and docs/small_windows.md, "On the matrix unit".
TEST(Registry, BesideAMatrixUnitBandedIsTheBestVariantForSmallWindows) {
  const auto best = [](int64_t window, int64_t dim, int64_t extent, Pass pass) {
    const Axis axis{.extent = extent, .window = window};
    const Problem problem{.axes = {axis, axis}, .head_dim = dim, .head_dim_v = dim, .type = ElementType::bf16};
    return best_variant(problem, pass, false, kBf16Amx).name;
  };
  EXPECT_EQ(best(3, 32, 56, Pass::forward), "banded") << "in float";
  EXPECT_EQ(best(13, 64, 56, Pass::forward), "banded");
  EXPECT_EQ(best(17, 32, 56, Pass::forward), "banded");
  EXPECT_EQ(best(17, 64, 56, Pass::forward), "fused");
  EXPECT_EQ(best(5, 128, 56, Pass::forward), "banded") << "in float";
  EXPECT_EQ(best(13, 64, 14, Pass::forward), "banded");
  EXPECT_EQ(best(13, 64, 13, Pass::forward), "fused") << "self attention";
  EXPECT_EQ(best(13, 64, 56, Pass::backward), "fused") << "in float";
  EXPECT_EQ(best(7, 64, 56, Pass::backward), "banded") << "in float";
}

// As measured: docs/matrix_unit.md, "Dot products of bf16".
TEST(Registry, BesideDotProductsBandedIsTheBestVariantForFewerKeys) {
  const auto best = [](int64_t window, int64_t dim, Pass pass) {
    const Axis axis{.extent = 56, .window = window};
    const Problem problem{.axes = {axis, axis}, .head_dim = dim, .head_dim_v = dim, .type = ElementType::bf16};
    return best_variant(problem, pass, false, kBf16Dot).name;
  };
  EXPECT_EQ(best(17, 32, Pass::forward), "banded");
  EXPECT_EQ(best(11, 64, Pass::forward), "banded");
  EXPECT_EQ(best(13, 64, Pass::forward), "fused");
  EXPECT_EQ(best(9, 128, Pass::forward), "banded");
  EXPECT_EQ(best(11, 128, Pass::forward), "fused");
  EXPECT_EQ(best(13, 64, Pass::backward), "banded");
}

TEST(Registry, DotProductsOfTilesPayBackwardWhereWindowsFillGroupsOfKeys) {
  const auto pays = [](std::string_view variant, int64_t window, Pass pass) {
    const Problem problem{.axes = {{.extent = 100, .window = window}}, .type = ElementType::bf16};
    return find_variant(variant).pays(find_arithmetic(kBf16Dot), problem, pass);
  };
  for (const std::string_view variant : {"fused", "dense"}) {
    EXPECT_TRUE(pays(variant, 7, Pass::forward)) << variant;
    EXPECT_FALSE(pays(variant, 63, Pass::backward)) << variant;
    EXPECT_TRUE(pays(variant, 64, Pass::backward)) << variant;
  }
}

TEST(Registry, BandedTakesAMatrixUnitWhereItPays) {
  const Variant& banded = find_variant("banded");
  const Arithmetic& unit = find_arithmetic(kBf16Amx);
  const auto pays = [&](std::vector<Axis> axes, int64_t dim) {
    const Problem problem{.axes = std::move(axes), .head_dim = dim, .head_dim_v = dim, .type = ElementType::bf16};
    EXPECT_TRUE(banded.pays(find_arithmetic(kF32Fma), problem, Pass::forward));
    return banded.pays(unit, problem, Pass::forward);
  };
  const auto plane = [](int64_t window, int64_t dilation = 1) {
    const Axis axis{.extent = 56, .window = window, .dilation = dilation};
    return std::vector<Axis>{axis, axis};
  };
  EXPECT_TRUE(pays(plane(7), 32));
  EXPECT_TRUE(pays(plane(7, 8), 32)) << "rows of 7 tokens";
  EXPECT_FALSE(pays(plane(5), 128));
  const Axis five{.extent = 32, .window = 5};
  EXPECT_TRUE(pays({five, five, five}, 64));
  EXPECT_FALSE(pays({five, five, five}, 32));
  // One row of keys.
  EXPECT_FALSE(pays({{.extent = 4096, .window = 17}}, 64));
  EXPECT_TRUE(pays({{.extent = 4096, .window = 33}}, 64));
  EXPECT_TRUE(pays({{.extent = 4096, .window = 17}}, 128));
  EXPECT_FALSE(pays({{.extent = 5}, {.extent = 4096, .window = 9}}, 64));
  EXPECT_TRUE(banded.takes(unit, Pass::forward));
  EXPECT_FALSE(banded.takes(unit, Pass::backward));
}

TEST(Registry, BandedRefusesTheFirstWindowThatIsTooWide) {
  const auto refusal = [](int64_t window) {
    const Problem problem{.axes = {{.extent = 300, .window = window}}};
    return find_variant("banded").supports(problem, Pass::forward);
  };
  EXPECT_EQ(refusal(128), std::nullopt);
  EXPECT_EQ(refusal(129), "banded takes windows of at most 128 along the last axis, this one is 129");
}

TEST(Registry, VariantsHaveTheSplitOperatorsOrSayWhyNot) {
  for (const Variant& variant : variants()) {
    for (const Problem& problem : {kSelfAttention, kWindowed, kBiased}) {
      for (const Pass pass : kPasses) {
        const auto reason = variant.supports(problem, pass);
        EXPECT_NE(reason, "") << variant.name << " " << name(pass);
        if (!is_split(pass)) continue;
        EXPECT_EQ(reason.has_value(), variant.split == nullptr) << variant.name;
      }
    }
    if (variant.split == nullptr) continue;
    EXPECT_TRUE(variant.split->weights != nullptr && variant.split->weights_backward != nullptr) << variant.name;
    EXPECT_TRUE(variant.split->values != nullptr && variant.split->values_backward != nullptr) << variant.name;
  }
}

// As measured: docs/performance.md, "The weights themselves".
TEST(Registry, TheBestVariantOfASplitOperatorIsTheOneMeasuredToBeFaster) {
  const auto best = [](const Problem& problem, Pass pass) { return best_variant(problem, pass).name; };
  const Problem small{.axes = {{.extent = 56, .window = 7}, {.extent = 56, .window = 7}}};
  const Problem large{.axes = {{.extent = 64, .window = 31}, {.extent = 64, .window = 31}}};
  const Problem dilated{
      .axes = {{.extent = 56, .window = 7, .dilation = 8}, {.extent = 56, .window = 7, .dilation = 8}}};
  const Problem row{.axes = {{.extent = 4096, .window = 64}}};
  for (const Pass pass : kPasses) {
    if (!is_split(pass)) continue;
    EXPECT_EQ(best(small, pass), "naive") << name(pass);
    EXPECT_EQ(best(large, pass), "gemm") << name(pass);
    // Tiles with little waste; sums of values gain least from them.
    for (const Problem& problem : {dilated, row}) {
      EXPECT_EQ(best(problem, pass), pass == Pass::values ? "naive" : "gemm") << problem.id() << " " << name(pass);
    }
  }
}

TEST(Registry, EveryVariantTakesAnArithmeticForEveryTypeAndOnlyTheOracleTheOracles) {
  for (const Variant& variant : variants()) {
    for (const Pass pass : kPasses) {
      if (variant.device != Device::cpu || (is_split(pass) && variant.split == nullptr)) continue;
      for (const ElementType type : test::kElementTypes) {
        bool any = false;
        for (const Arithmetic& arithmetic : arithmetics()) {
          const bool everywhere = arithmetic.needs == CpuFeatures{};
          any = any || (variant.takes(arithmetic, pass) && arithmetic.computes(type, pass) && everywhere);
        }
        EXPECT_TRUE(any) << variant.name << " " << name(type) << ": on every CPU";
      }
      EXPECT_EQ(variant.takes(find_arithmetic(kF64Scalar), pass), variant.is_oracle) << variant.name;
    }
  }
}

TEST(Registry, VariantsOfADeviceThatIsNotHereSayWhatTheyNeed) {
  int others = 0;
  for (const Variant& variant : variants()) {
    EXPECT_EQ(variant.open != nullptr, variant.device != Device::cpu) << variant.name;
    const auto reason = why_not_here(variant.device);
    if (!reason) continue;
    ++others;
    EXPECT_EQ(reason, "needs a build with CUDA") << "nothing for a GPU is linked into this program";
    for (const ElementType type : test::kElementTypes) {
      Problem problem = kSelfAttention;
      problem.type = type;
      EXPECT_EQ(variant.supports(problem, Pass::forward), std::string(variant.name) + " " + *reason);
      EXPECT_EQ(test::error_of([&] { make_plan(problem, Pass::forward, {.variant = variant.name}); }),
                std::string(variant.name) + " " + *reason);
    }
  }
  EXPECT_EQ(others, 2);
}

TEST(Registry, DevicesHaveNames) {
  EXPECT_EQ(name(Device::cpu), "cpu");
  EXPECT_EQ(name(Device::cuda), "cuda");
}

}  // namespace
}  // namespace nalab
