#include "core/problem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "core/error.h"
#include "tests/core/definition.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A valid problem in three axes, to be spoilt.
Problem valid() {
  return {.axes = {{.extent = 4, .window = 3},
                   {.extent = 9, .window = 4, .stride = 2, .dilation = 2},
                   {.extent = 5, .window = 5, .causal = true}},
          .batch = 2,
          .heads = 6,
          .heads_kv = 3,
          .head_dim = 8,
          .head_dim_v = 16};
}

/// The line that validate() throws; "" for a valid problem.
std::string line(const Problem& problem) {
  try {
    problem.validate();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

struct BadProblem {
  const char* name;
  void (*spoil)(Problem&);
  const char* line;
};
void PrintTo(const BadProblem& bad, std::ostream* out) { *out << bad.name; }

class BadProblems : public ::testing::TestWithParam<BadProblem> {};

TEST_P(BadProblems, IsRefusedWithThisLine) {
  Problem problem = valid();
  ASSERT_EQ(line(problem), "");
  GetParam().spoil(problem);
  EXPECT_EQ(line(problem), GetParam().line);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, BadProblems,
    ::testing::Values(
        BadProblem{"no_axis", [](Problem& p) { p.axes.clear(); }, "rank 0 must be 1, 2 or 3"},
        BadProblem{"four_axes", [](Problem& p) { p.axes.push_back({}); }, "rank 4 must be 1, 2 or 3"},
        BadProblem{"extent_zero", [](Problem& p) { p.axes[0] = {.extent = 0}; }, "axis 1: layout 0 must be at least 1"},
        BadProblem{"extent_negative", [](Problem& p) { p.axes[2] = {.extent = -7}; },
                   "axis 3: layout -7 must be at least 1"},
        BadProblem{"extent_too_large", [](Problem& p) { p.axes[0] = {.extent = 2147483649}; },
                   "axis 1: layout 2147483649 must be at most 2147483648"},
        BadProblem{"dilation_zero", [](Problem& p) { p.axes[1].dilation = 0; },
                   "axis 2: dilation 0 must be at least 1"},
        BadProblem{"dilation_negative", [](Problem& p) { p.axes[1].dilation = -2; },
                   "axis 2: dilation -2 must be at least 1"},
        BadProblem{"window_zero", [](Problem& p) { p.axes[1].window = 0; }, "axis 2: window 0 must be at least 1"},
        BadProblem{"window_too_large", [](Problem& p) { p.axes[0].window = 5; },
                   "axis 1: window 5 must be at most 4, the layout 4 div the dilation 1"},
        BadProblem{"window_too_large_when_dilated", [](Problem& p) { p.axes[1].window = 5; },
                   "axis 2: window 5 must be at most 4, the layout 9 div the dilation 2"},
        BadProblem{"dilation_too_large", [](Problem& p) { p.axes[1].dilation = 3; },
                   "axis 2: window 4 must be at most 3, the layout 9 div the dilation 3"},
        BadProblem{"dilation_beyond_extent", [](Problem& p) { p.axes[2] = {.extent = 5, .dilation = 6}; },
                   "axis 3: window 1 must be at most 0, the layout 5 div the dilation 6"},
        BadProblem{"stride_zero", [](Problem& p) { p.axes[2].stride = 0; }, "axis 3: stride 0 must be at least 1"},
        BadProblem{"stride_too_large", [](Problem& p) { p.axes[2].stride = 6; },
                   "axis 3: stride 6 must be at most 5, the window"},
        BadProblem{"batch_zero", [](Problem& p) { p.batch = 0; }, "batch 0 must be at least 1"},
        BadProblem{"heads_zero", [](Problem& p) { p.heads = 0; }, "heads 0 must be at least 1"},
        BadProblem{"heads_kv_zero", [](Problem& p) { p.heads_kv = 0; }, "heads_kv 0 must be at least 1"},
        BadProblem{"heads_kv_no_divisor", [](Problem& p) { p.heads_kv = 4; }, "heads_kv 4 must divide heads 6"},
        BadProblem{"heads_kv_beyond_heads", [](Problem& p) { p.heads_kv = 12; }, "heads_kv 12 must divide heads 6"},
        BadProblem{"head_dim_zero", [](Problem& p) { p.head_dim = 0; }, "head_dim 0 must be at least 1"},
        BadProblem{"head_dim_v_zero", [](Problem& p) { p.head_dim_v = 0; }, "head_dim_v 0 must be at least 1"},
        BadProblem{"extra_negative", [](Problem& p) { p.extra_tokens = -1; }, "extra_tokens -1 must be at least 0"},
        BadProblem{"scale_nan", [](Problem& p) { p.scale = kNan; }, "scale nan must be finite"},
        BadProblem{"scale_infinite", [](Problem& p) { p.scale = kInfinity; }, "scale inf must be finite"},
        BadProblem{"scale_negative_infinite", [](Problem& p) { p.scale = -kInfinity; }, "scale -inf must be finite"}),
    [](const auto& test) { return test.param.name; });

TEST(Problem, ListsAllViolationsAtOnce) {
  Problem problem = valid();
  problem.axes[0].window = 9;
  problem.axes[0].stride = 10;
  problem.axes[1].dilation = 0;
  problem.heads_kv = 4;
  problem.scale = kNan;
  EXPECT_EQ(line(problem),
            "axis 1: window 9 must be at most 4, the layout 4 div the dilation 1; "
            "axis 1: stride 10 must be at most 9, the window; "
            "axis 2: dilation 0 must be at least 1; "
            "heads_kv 4 must divide heads 6; "
            "scale nan must be finite");
  const std::vector<Violation> violations = problem.violations();
  ASSERT_EQ(violations.size(), 5u);
  EXPECT_EQ(violations.front().axis, 1);
  EXPECT_EQ(violations.front().parameter, "window");
  EXPECT_EQ(violations.front().value, "9");
  EXPECT_EQ(violations.back().axis, 0);
}

TEST(Problem, ValidAtTheLimits) {
  EXPECT_EQ(line({.axes = {{}}, .head_dim = 1, .head_dim_v = 1}), "") << "one token";
  EXPECT_EQ(line({.axes = {{.extent = 7, .window = 1, .dilation = 7}}}), "") << "each token its own group";
  EXPECT_EQ(line({.axes = {{.extent = 7, .window = 7, .stride = 7, .causal = true}}}), "");
  for (double scale : {0.0, -0.0, -3.5, 1e300, 5e-324}) {
    EXPECT_EQ(line({.axes = {{}}, .scale = scale}), "") << scale;
  }
}

TEST(Problem, CountsMustFitIn64Bits) {
  const int64_t extent = int64_t{1} << 31;
  Problem problem{.axes = {{.extent = extent, .window = int64_t{1} << 28}}, .head_dim = 1, .head_dim_v = 1};
  EXPECT_EQ(line(problem), "");
  EXPECT_EQ(problem.attended_pairs(), int64_t{1} << 59);
  EXPECT_EQ(problem.useful_flops(Pass::forward), int64_t{1} << 61);
  EXPECT_EQ(problem.useful_flops(Pass::backward), int64_t{5} << 60);
  problem.axes[0].window = extent;
  EXPECT_THAT(line(problem), HasSubstr("problem 2147483648 must be small enough"));
  problem = {.axes = {{.extent = extent}, {.extent = extent}, {.extent = extent}}};
  EXPECT_THAT(line(problem), HasSubstr("problem 2147483648x2147483648x2147483648 must be small enough"));
  problem = {.axes = {{.extent = 2}}, .batch = int64_t{1} << 40, .heads = int64_t{1} << 40};
  EXPECT_THAT(line(problem), HasSubstr("must be small enough"));
  // Few FLOPs, but the tensors of the backward pass would have 2^64 bytes.
  problem = {.axes = {{.extent = extent}}, .head_dim = int64_t{1} << 28, .head_dim_v = int64_t{1} << 28};
  EXPECT_THAT(line(problem), HasSubstr("must be small enough"));
}

TEST(Problem, EffectiveScale) {
  Problem problem{.axes = {{}}, .head_dim = 16};
  EXPECT_EQ(problem.effective_scale(), 0.25);
  for (double scale : {0.0, -2.0, 1e10}) {
    problem.scale = scale;
    EXPECT_EQ(problem.effective_scale(), scale);
    EXPECT_EQ(problem.weights_scale(), scale);
  }
  EXPECT_EQ((Problem{.axes = {{}}, .head_dim = 16}.weights_scale()), 1.0) << "of the weights themselves";
}

/// Attended pairs of one head, by looking at every pair of tokens.
int64_t count_pairs(const Problem& problem) {
  const test::LayoutMask mask(problem);
  const auto axes = problem.axes3();
  std::vector<std::array<int64_t, 3>> tokens;
  for (int64_t x1 = 0; x1 < axes[0].extent; ++x1) {
    for (int64_t x2 = 0; x2 < axes[1].extent; ++x2) {
      for (int64_t x3 = 0; x3 < axes[2].extent; ++x3) tokens.push_back({x1, x2, x3});
    }
  }
  int64_t pairs = 0;
  for (const auto& query : tokens) {
    for (const auto& key : tokens) pairs += mask.attends(query, key);
    pairs += problem.extra_tokens;
  }
  return pairs;
}

TEST(Problem, CountsAttendedPairsExactly) {
  std::mt19937_64 random(7);
  const auto pick = [&random](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int i = 0; i < 600; ++i) {
    Problem problem;
    const int64_t rank = 1 + i % 3;
    const int64_t greatest = rank == 1 ? 60 : rank == 2 ? 11 : 6;
    for (int64_t axis = 0; axis < rank; ++axis) {
      Axis a{.extent = pick(1, greatest)};
      a.dilation = pick(0, 2) == 0 ? 1 : pick(1, a.extent);
      a.window = pick(1, a.extent / a.dilation);
      a.stride = pick(1, a.window);
      a.causal = pick(0, 1) == 1;
      problem.axes.push_back(a);
    }
    problem.batch = pick(1, 3);
    problem.heads_kv = pick(1, 3);
    problem.heads = problem.heads_kv * pick(1, 3);
    problem.head_dim = pick(1, 20);
    problem.head_dim_v = pick(1, 20);
    problem.extra_tokens = pick(0, 1) == 0 ? 0 : pick(1, 9);
    ASSERT_EQ(line(problem), "") << problem.id();
    const int64_t pairs = count_pairs(problem);
    ASSERT_EQ(problem.attended_pairs(), pairs) << problem.id();
    const int64_t multiply_adds = problem.batch * problem.heads * pairs;
    ASSERT_EQ(problem.useful_flops(Pass::forward), 2 * multiply_adds * (problem.head_dim + problem.head_dim_v));
    // q k^T again, dq, dk: head_dim each; dout v^T, dv: head_dim_v each.
    ASSERT_EQ(problem.useful_flops(Pass::backward),
              2 * multiply_adds * (3 * problem.head_dim + 2 * problem.head_dim_v));
    ASSERT_EQ(problem.is_self_attention(), pairs == problem.tokens() * (problem.tokens() + problem.extra_tokens))
        << problem.id();
  }
}

TEST(Problem, TokensAndKeysPerQuery) {
  Problem problem = valid();
  EXPECT_EQ(problem.rank(), 3);
  EXPECT_EQ(problem.tokens(), 4 * 9 * 5);
  EXPECT_EQ(problem.keys_per_query(), 3 * 4 * 5);
  problem.extra_tokens = 7;
  EXPECT_EQ(problem.keys_per_query(), 3 * 4 * 5 + 7);
  EXPECT_EQ(layout_text(problem), "4x9x5");
}

TEST(Problem, AxesAreEmbeddedInThreeByLeadingOnes) {
  Problem problem = valid();
  problem.axes.erase(problem.axes.begin());
  const auto axes = problem.axes3();
  EXPECT_EQ(axes[0], Axis{});
  EXPECT_EQ(axes[1], problem.axes[0]);
  EXPECT_EQ(axes[2], problem.axes[1]);
}

TEST(Problem, SelfAttentionKeepsTheTensorsAndAttendsToEverything) {
  Problem problem = valid();
  problem.extra_tokens = 2;
  problem.scale = 0.5;
  EXPECT_FALSE(problem.is_self_attention());
  const Problem dense = problem.self_attention();
  EXPECT_TRUE(dense.is_self_attention());
  EXPECT_EQ(line(dense), "");
  EXPECT_EQ(dense.attended_pairs(), 180 * (180 + 2));
  EXPECT_EQ(dense.tensor_bytes(Pass::forward), problem.tensor_bytes(Pass::forward));
  EXPECT_EQ(dense.id(), "4x9x5_w4x9x5_s1x1x1_d1x1x1_c0x0x0_b2_h6_kv3_dk8_dv16_e2_scale0.5_f32");
}

TEST(Problem, TensorBytes) {
  const Problem problem{.axes = {{.extent = 3}, {.extent = 5}},
                        .batch = 2,
                        .heads = 4,
                        .heads_kv = 2,
                        .head_dim = 7,
                        .head_dim_v = 11,
                        .extra_tokens = 6,
                        .type = ElementType::bf16};
  const int64_t q = 2 * 15 * 4 * 7;
  const int64_t out = 2 * 15 * 4 * 11;
  const int64_t kv = 2 * (15 + 6) * 2 * (7 + 11);
  const int64_t lse_bytes = 2 * 15 * 4 * 4;
  EXPECT_EQ(problem.tensor_bytes(Pass::forward), 2 * (q + kv + out) + lse_bytes);
  EXPECT_EQ(problem.tensor_bytes(Pass::backward), 2 * ((q + kv + out) + out + (q + kv)) + lse_bytes)
      << "reads q, k, v, out, dout, lse; writes the gradients of q, k, v";
  const int64_t attn = 2 * 15 * 4 * (1 + 6), k = 2 * (15 + 6) * 2 * 7, v = 2 * (15 + 6) * 2 * 11;
  EXPECT_EQ(problem.tensor_bytes(Pass::weights), 2 * (q + k + attn));
  EXPECT_EQ(problem.tensor_bytes(Pass::weights_backward), 2 * (q + k + attn + q + k));
  EXPECT_EQ(problem.tensor_bytes(Pass::values), 2 * (attn + v + out));
  EXPECT_EQ(problem.tensor_bytes(Pass::values_backward), 2 * (attn + v + out + attn + v));
  Problem wider = problem;
  wider.type = ElementType::f32;
  EXPECT_EQ(wider.tensor_bytes(Pass::forward) - lse_bytes, 2 * (problem.tensor_bytes(Pass::forward) - lse_bytes));
}

/// valid() with a relative bias.
Problem with_bias() {
  Problem problem = valid();
  problem.relative_bias = true;
  return problem;
}

TEST(Problem, ARelativeBiasHasAnEntryForEachOffsetAndCostsNoFlops) {
  const Problem plain = valid(), biased = with_bias();
  EXPECT_EQ(line(biased), "");
  EXPECT_EQ(biased.bias_entries(), 5 * 7 * 9);
  EXPECT_EQ((Problem{.axes = {{.extent = 6, .window = 4}}, .relative_bias = true}.bias_entries()), 7);
  EXPECT_EQ((Problem{.axes = {{.extent = 6}}, .relative_bias = true}.bias_entries()), 1);
  EXPECT_EQ(biased.attended_pairs(), plain.attended_pairs());
  EXPECT_EQ(biased.keys_per_query(), plain.keys_per_query());
  for (const Pass pass : kPasses) {
    EXPECT_EQ(biased.useful_flops(pass), plain.useful_flops(pass)) << name(pass);
    EXPECT_EQ(biased.flops_per_pair(pass), plain.flops_per_pair(pass)) << name(pass);
  }
}

TEST(Problem, TheTableOfBiasesCountsOnceInBytesAndItsGradientOnce) {
  Problem plain = valid(), biased = with_bias();
  const int64_t table = 4 * 6 * 5 * 7 * 9;
  for (ElementType type : {ElementType::f32, ElementType::bf16}) {
    plain.type = biased.type = type;  // the table is f32 in both
    const auto more = [&](Pass pass) { return biased.tensor_bytes(pass) - plain.tensor_bytes(pass); };
    EXPECT_EQ(more(Pass::forward), table);
    EXPECT_EQ(more(Pass::backward), 2 * table);
    EXPECT_EQ(more(Pass::weights), table);
    EXPECT_EQ(more(Pass::weights_backward), table) << "the gradient; the table itself is not needed";
    EXPECT_EQ(more(Pass::values), 0);
    EXPECT_EQ(more(Pass::values_backward), 0);
  }
}

TEST(Problem, SelfAttentionKeepsABiasOnlyIfTheWindowIsTheLayout) {
  EXPECT_FALSE(with_bias().self_attention().relative_bias) << "the table is that of the window";
  Problem whole{.axes = {{.extent = 4, .window = 4}, {.extent = 3, .window = 3, .stride = 2}}, .relative_bias = true};
  EXPECT_TRUE(whole.self_attention().relative_bias);
  EXPECT_EQ(whole.self_attention().bias_entries(), whole.bias_entries());
  whole.axes[1].causal = true;
  EXPECT_FALSE(whole.self_attention().relative_bias) << "causal: not self attention";
  EXPECT_FALSE((Problem{.axes = {{.extent = 4, .window = 4}}}.self_attention().relative_bias));
}

TEST(Problem, ATableOfBiasesMustBeSmallEnoughForItsBytesToBeCounted) {
  // So many heads that the tensors fit, and their tables beside them do not.
  Problem problem{.axes = {{.extent = 16, .window = 16}}, .heads = int64_t{3} << 45, .head_dim = 1, .head_dim_v = 1};
  EXPECT_EQ(line(problem), "");
  problem.relative_bias = true;
  EXPECT_EQ(line(problem), "problem 16 must be small enough for its FLOPs and bytes to be counted in 64 bits");
  problem.heads = int64_t{1} << 45;
  EXPECT_EQ(line(problem), "");
  EXPECT_GT(problem.tensor_bytes(Pass::backward), 2 * 4 * problem.heads * 31);
  const int64_t extent = int64_t{1} << 29;
  problem = {.axes = {{.extent = extent, .window = extent}}, .head_dim = 1, .head_dim_v = 1, .relative_bias = true};
  EXPECT_EQ(line(problem), "");
  EXPECT_EQ(problem.bias_entries(), 2 * extent - 1);
  const Axis axis{.extent = 1 << 14, .window = 1 << 14};
  problem.axes = {axis, axis};
  EXPECT_EQ(line(problem), "");
  EXPECT_EQ(problem.bias_entries(), ((int64_t{1} << 15) - 1) * ((int64_t{1} << 15) - 1));
}

TEST(Problem, ViolationsAreTheSameWithABias) {
  Problem plain = valid();
  plain.axes[0].window = int64_t{1} << 62;
  plain.axes[1].window = std::numeric_limits<int64_t>::max();
  plain.axes[2].window = -1;
  Problem biased = plain;
  biased.relative_bias = true;
  EXPECT_EQ(line(biased), line(plain));
  EXPECT_THAT(line(biased), HasSubstr("axis 1: window 4611686018427387904 must be at most 4, the layout 4"));
}

TEST(ProblemId, IsStable) {
  EXPECT_EQ((Problem{.axes = {{.extent = 56, .window = 7}, {.extent = 56, .window = 7}},
                     .heads = 2,
                     .heads_kv = 2,
                     .head_dim = 32,
                     .head_dim_v = 32}
                 .id()),
            "56x56_w7x7_s1x1_d1x1_c0x0_b1_h2_kv2_dk32_dv32_e0_f32");
  EXPECT_EQ(valid().id(), "4x9x5_w3x4x5_s1x2x1_d1x2x1_c0x0x1_b2_h6_kv3_dk8_dv16_e0_f32");
  Problem biased = with_bias();
  EXPECT_EQ(biased.id(), valid().id() + "_rpb");
  biased.scale = 0.5;
  EXPECT_EQ(biased.id(), "4x9x5_w3x4x5_s1x2x1_d1x2x1_c0x0x1_b2_h6_kv3_dk8_dv16_e0_scale0.5_f32_rpb");
}

TEST(ProblemId, DiffersWhereAnythingDiffers) {
  const std::vector<void (*)(Problem&)> changes = {
      [](Problem&) {},
      [](Problem& p) { p.axes[0].extent = 5; },
      [](Problem& p) { p.axes[0].window = 2; },
      [](Problem& p) { p.axes[0].stride = 2; },
      [](Problem& p) { p.axes[2].stride = 2; },
      [](Problem& p) { p.axes[1].dilation = 1; },
      [](Problem& p) { p.axes[0].causal = true; },
      [](Problem& p) { p.axes.pop_back(); },
      [](Problem& p) { p.batch = 1; },
      [](Problem& p) { p.heads = 3; },
      [](Problem& p) { p.heads_kv = 1; },
      [](Problem& p) { p.head_dim = 9; },
      [](Problem& p) { p.head_dim_v = 17; },
      [](Problem& p) { p.extra_tokens = 1; },
      [](Problem& p) { p.type = ElementType::f16; },
      [](Problem& p) { p.type = ElementType::bf16; },
      [](Problem& p) { p.scale = 0.0; },
      [](Problem& p) { p.scale = -1.5; },
      [](Problem& p) { p.scale = 0.1; },
      [](Problem& p) { p.scale = 0.1 + 1e-15; },
      [](Problem& p) { p.scale = p.effective_scale(); },
      [](Problem& p) { p.scale = 1e-300; },
      [](Problem& p) { p.relative_bias = true; },
  };
  std::set<std::string> ids;
  for (const auto change : changes) {
    Problem problem = valid();
    change(problem);
    ASSERT_EQ(line(problem), "");
    EXPECT_TRUE(ids.insert(problem.id()).second) << problem.id();
    EXPECT_EQ(problem.id().find_first_of(" /\\:*?\"<>|"), std::string::npos) << "fit for a file name: " << problem.id();
  }
}

TEST(Pass, Names) {
  EXPECT_STREQ(name(Pass::forward), "forward");
  EXPECT_STREQ(name(Pass::backward), "backward");
  EXPECT_STREQ(name(Pass::weights), "weights");
  EXPECT_STREQ(name(Pass::weights_backward), "weights_backward");
  EXPECT_STREQ(name(Pass::values), "values");
  EXPECT_STREQ(name(Pass::values_backward), "values_backward");
}

TEST(Pass, KindsByTheirNames) {
  std::set<std::string> names;
  for (const Pass pass : kPasses) {
    const std::string text = name(pass);
    EXPECT_TRUE(names.insert(text).second) << text;
    EXPECT_EQ(is_backward(pass), text.ends_with("backward")) << text;
    EXPECT_EQ(is_split(pass), text.starts_with("weights") || text.starts_with("values")) << text;
    EXPECT_EQ(parse_pass(text), pass) << text;
  }
  for (const char* none : {"", "forwards", "back"}) {
    EXPECT_EQ(test::error_of([&] { parse_pass(none); }),
              "pass '" + std::string(none) +
                  "' is none of forward, backward, weights, weights_backward, values, values_backward");
  }
}

TEST(Problem, FlopsPerPairAreTwoForEachMultiplyAdd) {
  const Problem problem = valid();  // head_dim 8, head_dim_v 16
  EXPECT_EQ(problem.flops_per_pair(Pass::forward), 2 * (8 + 16));
  EXPECT_EQ(problem.flops_per_pair(Pass::backward), 2 * (3 * 8 + 2 * 16));
  EXPECT_EQ(problem.flops_per_pair(Pass::weights), 2 * 8) << "q k^T";
  EXPECT_EQ(problem.flops_per_pair(Pass::weights_backward), 2 * 2 * 8) << "dq, dk";
  EXPECT_EQ(problem.flops_per_pair(Pass::values), 2 * 16) << "attn v";
  EXPECT_EQ(problem.flops_per_pair(Pass::values_backward), 2 * 2 * 16) << "dattn, dv";
  EXPECT_EQ(problem.flops_per_pair(Pass::weights) + problem.flops_per_pair(Pass::values),
            problem.flops_per_pair(Pass::forward));
  for (const Pass pass : kPasses) {
    EXPECT_EQ(problem.useful_flops(pass), 2 * 6 * problem.attended_pairs() * problem.flops_per_pair(pass))
        << name(pass) << ": slots that a causal axis hides are not counted";
  }
}

TEST(Extents, TextAndNumbersAreInverse) {
  for (const std::vector<int64_t>& extents : std::vector<std::vector<int64_t>>{
           {1}, {30, 48, 80}, {0, -3}, {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()}}) {
    EXPECT_EQ(parse_extents("layout", extents_text(extents)), extents);
  }
  EXPECT_EQ(extents_text(std::vector<int64_t>{30, 48, 80}), "30x48x80");
  EXPECT_EQ(extents_text({}), "");
  EXPECT_EQ(parse_extents("--layout", "30,48x80"), (std::vector<int64_t>{30, 48, 80}));
  EXPECT_EQ(per_axis(valid(), &Axis::causal), (std::vector<int64_t>{0, 0, 1}));
}

TEST(Extents, OtherTextsAreRefused) {
  for (const char* text :
       {"", "x", "8x", "x8", "8xx8", "8y8", "8 x8", " 8", "1.5", "+8", "0x1f", "99999999999999999999"}) {
    try {
      parse_extents("window", text);
      ADD_FAILURE() << "'" << text << "' was read";
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), "window '" + std::string(text) + "' must be whole numbers joined by x, such as 30x48x80");
    }
  }
}

}  // namespace
}  // namespace nalab
