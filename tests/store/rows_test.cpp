#include "store/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/store/sample_rows.h"

namespace nalab::store {
namespace {

std::vector<Problem> awkward_problems() {
  const Axis whole{.extent = 5, .window = 5, .causal = true};
  return {
      {.axes = {{.extent = 1}}},
      {.axes = {whole}, .batch = 3, .heads = 6, .heads_kv = 2, .head_dim = 7, .head_dim_v = 3, .extra_tokens = 11},
      {.axes = {{.extent = 9, .window = 4, .stride = 2, .dilation = 2}, whole}, .type = ElementType::bf16},
      {.axes = {whole, {.extent = 4, .window = 3}, {.extent = 13, .window = 2, .stride = 2, .causal = true}},
       .extra_tokens = 1,
       .type = ElementType::f16},
      {.axes = {{.extent = int64_t{1} << 31}}},
      {.axes = {whole}, .scale = 0},
      {.axes = {whole}, .scale = -0.25},
      {.axes = {whole}, .scale = 1e-300},
      {.axes = {whole}, .head_dim = 64, .scale = 0.125},  // the default, but named
      {.axes = {whole}, .head_dim = 3},                   // a default that decimals do not say exactly
      {.axes = {whole}, .head_dim = 3, .scale = 1 / std::sqrt(3.0)},
      {.axes = {whole}, .heads = 4, .heads_kv = 2, .relative_bias = true, .type = ElementType::f16},
      {.axes = {whole}, .relative_bias = true, .scale = 1},
  };
}

TEST(Rows, ProblemAndRowAreInverse) {
  for (const Problem& problem : awkward_problems()) {
    Row described;
    describe(problem, described);
    const Problem read = problem_of(described);
    EXPECT_EQ(read.id(), problem.id());
    EXPECT_EQ(read.scale, problem.scale);
    EXPECT_EQ(read.effective_scale(), problem.effective_scale());
    EXPECT_EQ(described.problem, problem.id());
    Row again;
    describe(read, again);
    EXPECT_EQ(text_of(again), text_of(described));
  }
}

TEST(Rows, TheScaleIsThatOfThePass) {
  // 1 unless it is set, for the scores alone: in attention it follows the head dim.
  for (const Pass pass : kPasses) {
    for (const Problem& problem : awkward_problems()) {
      Row described;
      described.pass = name(pass);
      describe(problem, described);
      const bool of_weights = pass == Pass::weights || pass == Pass::weights_backward;
      EXPECT_EQ(described.scale, of_weights ? problem.weights_scale() : problem.effective_scale());
      EXPECT_EQ(problem_of(described).scale, problem.scale) << name(pass) << ' ' << problem.id();
    }
  }
}

TEST(Rows, NothingElseOfARowIsTouched) {
  Row described = row("a"), untouched = described;
  describe(awkward_problems()[1], described);
  for (Row* r : {&described, &untouched}) describe(awkward_problems()[0], *r);
  EXPECT_EQ(text_of(described), text_of(untouched));
}

TEST(Rows, TheScaleOfARowCountsWhateverItsIdSays) {
  Row described;
  describe({.axes = {{.extent = 4}}}, described);
  described.scale = 2;
  EXPECT_EQ(problem_of(described).scale, 2);
}

TEST(Rows, ProblemAndSimulationAreInverse) {
  for (const Problem& problem : awkward_problems()) {
    SimulationRow described;
    describe(problem, described);
    const Problem read = problem_of(described);
    EXPECT_EQ(read.id(), (Problem{.axes = problem.axes, .extra_tokens = problem.extra_tokens}).id());
  }
}

TEST(Rows, FieldsThatDescribeNoProblemAreNamed) {
  const Problem problem{.axes = {{.extent = 6, .window = 3}, {.extent = 8, .window = 3}}};
  const auto sentence = [&](auto spoil) {
    Row described;
    describe(problem, described);
    spoil(described);
    return refusal([&] { problem_of(described); });
  };
  EXPECT_EQ(sentence([](Row& r) { r.layout = "6xx8"; }),
            "layout '6xx8' must be whole numbers joined by x, such as 30x48x80");
  EXPECT_EQ(sentence([](Row& r) { r.dilation = ""; }),
            "dilation '' must be whole numbers joined by x, such as 30x48x80");
  EXPECT_EQ(sentence([](Row& r) { r.window = "3x3x3"; }), "window '3x3x3' must have as many numbers as layout '6x8'");
  EXPECT_EQ(sentence([](Row& r) { r.causal = "0x2"; }), "causal '0x2' must hold 0 or 1 for each axis");
  EXPECT_EQ(sentence([](Row& r) { r.stride = "1x4"; }), "axis 2: stride 4 must be at most 3, the window");
  EXPECT_EQ(sentence([](Row& r) { r.extra_tokens = -1; }), "extra_tokens -1 must be at least 0");
  EXPECT_EQ(sentence([](Row& r) { r.relative_bias = 2; }), "relative_bias 2 must be 0 or 1");
  EXPECT_EQ(sentence([](Row& r) { r.relative_bias = -1; }), "relative_bias -1 must be 0 or 1");
  EXPECT_EQ(sentence([](Row& r) { r.type = "f8"; }), "element type 'f8' is none of f32, bf16, f16");
  EXPECT_EQ(sentence([](Row& r) { r.scale = std::numeric_limits<double>::infinity(); }), "scale inf must be finite");
  SimulationRow simulated;
  describe(problem, simulated);
  simulated.window = "7x3";
  EXPECT_EQ(refusal([&] { problem_of(simulated); }),
            "axis 1: window 7 must be at most 6, the layout 6 div the dilation 1");
}

TEST(Rows, ArithmeticsFollowVariantTypeIsaAndPass) {
  const auto inferred = [](const char* variant, const char* type, const char* isa, const char* pass = "forward") {
    Row r;
    r.variant = variant;
    r.type = type;
    r.isa = isa;
    r.pass = pass;
    infer_arithmetic(r);
    return r.arithmetic + "," + r.backward_arithmetic;
  };
  for (const char* variant : {"fused", "fused_static", "dense"}) {
    EXPECT_EQ(inferred(variant, "bf16", "avx512bf16"), "bf16_dot,");
    EXPECT_EQ(inferred(variant, "bf16", "avx512bf16", "forward_backward"), "bf16_dot,f32_fma");
    EXPECT_EQ(inferred(variant, "bf16", "avx512"), "f32_fma,");
    EXPECT_EQ(inferred(variant, "f16", "avx512bf16", "forward_backward"), "f32_fma,f32_fma");
  }
  for (const char* variant : {"naive", "gemm"}) EXPECT_EQ(inferred(variant, "bf16", "avx512bf16"), "f32_fma,");
  EXPECT_EQ(inferred("reference", "bf16", "avx512bf16", "forward_backward"), "f64_scalar,f64_scalar");
}

}  // namespace
}  // namespace nalab::store
