// The table of arithmetics, and that the one which a plan names is the one that computes.
#include "core/simd/arithmetic.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "tests/core/kernels/backward.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

using test::Setting;

constexpr const char* kNoSuchName =
    "arithmetic 'f8_dot' is none of bf16_amx, f32_amx3, bf16_dot, f32_fma, f64_scalar, bf16_amx_emulated, "
    "f32_amx3_emulated, wgmma";

TEST(Arithmetics, EveryNameOnceAndInOrderOfPreference) {
  std::string order;
  std::set<std::string_view> names;
  for (const Arithmetic& arithmetic : arithmetics()) {
    EXPECT_TRUE(names.insert(arithmetic.name).second) << arithmetic.name;
    EXPECT_FALSE(arithmetic.summary.empty()) << arithmetic.name;
    EXPECT_EQ(&find_arithmetic(arithmetic.name), &arithmetic);
    order += std::string(arithmetic.name) + " ";
  }
  EXPECT_EQ(order, "bf16_amx f32_amx3 bf16_dot f32_fma f64_scalar bf16_amx_emulated f32_amx3_emulated wgmma ");
}

TEST(Arithmetics, UnknownNamesAreRefusedWithTheList) {
  EXPECT_EQ(test::error_of([] { find_arithmetic("f8_dot"); }), kNoSuchName);
  EXPECT_EQ(test::error_of([] { find_arithmetic(""); }),
            "arithmetic '' is none of bf16_amx, f32_amx3, bf16_dot, f32_fma, f64_scalar, bf16_amx_emulated, "
            "f32_amx3_emulated, wgmma");
}

TEST(Arithmetics, AreAvailableWhereTheLimitAndTheCpuHaveWhatTheyNeed) {
  for (const Isa isa : all_isas()) {
    for (const Arithmetic& arithmetic : arithmetics()) {
      const bool allowed = features(isa).contains(arithmetic.needs) && !why_not_here(arithmetic.device);
      EXPECT_EQ(available(arithmetic, isa), allowed && cpu_features().contains(arithmetic.needs))
          << arithmetic.name << " " << name(isa);
    }
    EXPECT_TRUE(available(find_arithmetic(kF32Fma), isa));
    EXPECT_EQ(available(find_arithmetic(kBf16Dot), isa), isa >= Isa::avx512bf16 && cpu_supports(Isa::avx512bf16))
        << name(isa);
  }
}

TEST(Arithmetics, ComputeWhatTheySay) {
  for (const ElementType type : test::kElementTypes) {
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      EXPECT_TRUE(find_arithmetic(kF32Fma).computes(type, pass));
      EXPECT_TRUE(find_arithmetic(kF64Scalar).computes(type, pass));
      for (const std::string_view name : {kBf16Dot, kBf16Amx, kBf16AmxEmulated}) {
        EXPECT_EQ(find_arithmetic(name).computes(type, pass), type == ElementType::bf16);
      }
      for (const std::string_view name : {kF32Amx3, kF32Amx3Emulated}) {
        EXPECT_EQ(find_arithmetic(name).computes(type, pass), type == ElementType::f32);
      }
    }
  }
  EXPECT_TRUE(find_arithmetic(kF32Fma).preferred()) << "there is always one";
}

TEST(Arithmetics, PeaksAreMeasuredWhereSomebodyAsks) {
  Workers workers(2);
  for (const Arithmetic& arithmetic : arithmetics()) {
    const bool emulated = arithmetic.name == kBf16AmxEmulated || arithmetic.name == kF32Amx3Emulated;
    const bool has_peak = !emulated && arithmetic.name != kF64Scalar;
    EXPECT_EQ(arithmetic.measure_peak != nullptr, has_peak) << arithmetic.name;
    if (arithmetic.measure_peak == nullptr || !available(arithmetic, best_isa())) continue;
    const PeakRate rate = arithmetic.measure_peak(best_isa(), workers);
    EXPECT_GT(rate.one_thread, 0) << arithmetic.name;
    EXPECT_GT(rate.all_threads, 0) << arithmetic.name;
  }
}

TEST(ForcedArithmetic, IsWhatTheEnvironmentNames) {
  const test::ScopedEnvironment environment("NALAB_ARITHMETIC");
  environment.unset();
  EXPECT_EQ(forced_arithmetic(), nullptr);
  environment.set("");
  EXPECT_EQ(forced_arithmetic(), nullptr);
  for (const Arithmetic& arithmetic : arithmetics()) {
    environment.set(std::string(arithmetic.name));
    EXPECT_EQ(forced_arithmetic(), &arithmetic);
  }
  environment.set("f8_dot");
  EXPECT_EQ(test::error_of(forced_arithmetic), kNoSuchName);
}

/// Several tiles and blocks of keys; GQA, extra tokens, masks of all kinds.
Problem bf16_problem() {
  return {.axes = {{.extent = 17, .window = 9, .stride = 2}, {.extent = 21, .window = 8, .causal = true}},
          .heads = 4,
          .heads_kv = 2,
          .head_dim = 24,
          .head_dim_v = 20,
          .extra_tokens = 3,
          .type = ElementType::bf16};
}

/// The same numbers as floats.
Tensor as_floats(const ConstTensorView& view) {
  Tensor floats(ElementType::f32, view.shape);
  int64_t i = 0;
  for (const double x : test::to_double(view)) test::set(floats, i++, x);
  return floats;
}

/// A bundle of tensors as floats.
template <class Bundle>
struct AsFloats {
  std::vector<Tensor> tensors;
  Bundle views;

  AsFloats(const Problem& problem, const Bundle& bundle) {
    visit_tensors(problem, bundle,
                  [&](const TensorInfo&, const ConstTensorView& view) { tensors.push_back(as_floats(view)); });
    views = test::views_of<Bundle>(problem, tensors);
  }
};

TEST(ChosenArithmetic, F32FmaComputesWithFloatsOfTheRoundedInputsToTheLastBit) {
  for (const ElementType type : {ElementType::bf16, ElementType::f16}) {
    for (const Variant& variant : variants()) {
      Problem rounded = test::problem_of(variant, bf16_problem());
      rounded.type = type;
      Problem floats = rounded;
      floats.type = ElementType::f32;
      const test::Data data(rounded, 3);
      const AsFloats<Inputs> in(floats, data.inputs());
      for (const Setting& setting : test::settings(variant, floats, Pass::forward)) {
        if (!find_arithmetic(setting.arithmetic).computes(type, Pass::forward)) continue;
        SCOPED_TRACE(std::string(variant.name) + " " + setting.text());
        auto expected = test::run_forward(variant, floats, in.views, setting);
        auto results = test::run_forward(variant, rounded, data.inputs(), setting);
        EXPECT_EQ(results.out.bits(), expected.out.bits());
        EXPECT_EQ(results.lse.bits(), expected.lse.bits());
      }
      if (variant.supports(floats, Pass::backward)) continue;
      auto forward = test::run_forward(variant, floats, in.views, {.isa = Isa::baseline});
      const SavedForBackward saved{forward.out.view(), forward.lse.view(), data["dout"].view()};
      const AsFloats<SavedForBackward> saved_floats(floats, saved);
      for (const Setting& setting : test::settings(variant, floats, Pass::backward)) {
        if (!find_arithmetic(setting.arithmetic).computes(type, Pass::backward)) continue;
        SCOPED_TRACE(std::string(variant.name) + " " + setting.text() + " backward");
        auto expected = test::run_backward(test::plan_of(variant, floats, Pass::backward, setting), in.views,
                                           saved_floats.views, setting);
        auto results = test::run_backward(variant, rounded, data, saved, setting);
        for (std::size_t i = 0; i < results.size(); ++i) {
          EXPECT_EQ(results[i].bits(), expected[i].bits()) << test::gradients_of(floats)[i].name;
        }
      }
    }
  }
}

TEST(ChosenArithmetic, Bf16DotRoundsWeightsAndSoGivesOtherBits) {
  if (!available(find_arithmetic(kBf16Dot), best_isa())) GTEST_SKIP() << "this CPU lacks the instruction";
  const test::ScopedEnvironment environment("NALAB_ARITHMETIC");
  for (const char* name : {"fused", "dense", "banded"}) {
    const Variant& variant = find_variant(name);
    const Problem problem = test::problem_of(variant, bf16_problem());
    const test::Data data(problem, 3);
    const auto bits = [&](std::string_view arithmetic) {
      return test::run_forward(variant, problem, data.inputs(), {.isa = best_isa(), .arithmetic = arithmetic})
          .out.bits();
    };
    const auto dots = bits(kBf16Dot), floats = bits(kF32Fma);
    EXPECT_NE(dots, floats) << name;
    environment.set(std::string(kF32Fma));
    EXPECT_EQ(bits({}), floats) << name << " by NALAB_ARITHMETIC";
    environment.set(std::string(kBf16Dot));
    EXPECT_EQ(bits({}), dots) << name << " by NALAB_ARITHMETIC";
    environment.unset();
  }
}

}  // namespace
}  // namespace nalab
