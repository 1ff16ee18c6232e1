#include "core/attention.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/kernels/reference/reference.h"
#include "tests/core/kernels/support.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

/// A fitting call, to be spoilt.
struct Call {
  Problem problem{.axes = {{.extent = 3, .window = 2}, {.extent = 4, .window = 2}},
                  .batch = 2,
                  .heads = 4,
                  .heads_kv = 2,
                  .head_dim = 8,
                  .head_dim_v = 5,
                  .extra_tokens = 3,
                  .relative_bias = true,
                  .type = ElementType::bf16};
  test::Data data{problem, 1};
  std::vector<Tensor> results = test::tensors_for<Outputs>(problem, ElementType::f32);
  std::vector<Tensor> sums = test::tensors_for<Gradients>(problem, ElementType::f32);
  Inputs in = data.inputs();
  Outputs outputs = test::views_of<Outputs>(problem, results);
  SavedForBackward saved{outputs.out, outputs.lse, data["dout"].view()};
  Gradients gradients = test::views_of<Gradients>(problem, sums);
  std::string variant = "reference";

  PlanOptions options() const { return {.variant = variant, .isa = Isa::baseline}; }
  void forward() {
    Context context(1);
    attention_forward(problem, in, outputs, context, options());
  }
  void backward() {
    Context context(1);
    attention_backward(problem, in, saved, gradients, context, options());
  }
};

struct BadCall {
  const char* name;
  void (*spoil)(Call&);
  const char* line;
};
void PrintTo(const BadCall& bad, std::ostream* out) { *out << bad.name; }

class BadInputs : public ::testing::TestWithParam<BadCall> {};
class BadOutputs : public ::testing::TestWithParam<BadCall> {};
class BadBackward : public ::testing::TestWithParam<BadCall> {};

// Both passes take the same inputs.
TEST_P(BadInputs, AreRefusedWithThisLine) {
  Call call;
  GetParam().spoil(call);
  EXPECT_EQ(test::error_of([&] { call.forward(); }), GetParam().line);
  EXPECT_EQ(test::error_of([&] { call.backward(); }), GetParam().line);
}

TEST_P(BadOutputs, AreRefusedWithThisLine) {
  Call call;
  GetParam().spoil(call);
  EXPECT_EQ(test::error_of([&] { call.forward(); }), GetParam().line);
}

TEST_P(BadBackward, IsRefusedWithThisLine) {
  Call call;
  GetParam().spoil(call);
  EXPECT_EQ(test::error_of([&] { call.backward(); }), GetParam().line);
}

constexpr auto kTestName = [](const auto& test) { return test.param.name; };

INSTANTIATE_TEST_SUITE_P(
    Attention, BadInputs,
    ::testing::Values(
        BadCall{"q_missing", [](Call& c) { c.in.q = {}; }, "tensor q is missing"},
        BadCall{"k_missing", [](Call& c) { c.in.k = {}; }, "tensor k is missing"},
        BadCall{"v_missing", [](Call& c) { c.in.v = {}; }, "tensor v is missing"},
        BadCall{"extra_k_missing", [](Call& c) { c.in.extra_k = {}; }, "tensor extra_k is missing"},
        BadCall{"extra_v_missing", [](Call& c) { c.in.extra_v = {}; }, "tensor extra_v is missing"},
        BadCall{"q_batch", [](Call& c) { c.in.q.shape.batch = 3; },
                "tensor q has shape [3, 1, 3, 4, 4, 8], must be [2, 1, 3, 4, 4, 8]"},
        BadCall{"k_layout", [](Call& c) { c.in.k.shape.layout[1] = 5; },
                "tensor k has shape [2, 1, 5, 4, 2, 8], must be [2, 1, 3, 4, 2, 8]"},
        BadCall{"k_heads", [](Call& c) { c.in.k = c.in.q; },
                "tensor k has shape [2, 1, 3, 4, 4, 8], must be [2, 1, 3, 4, 2, 8]"},
        BadCall{"v_dim", [](Call& c) { c.in.v.shape.dim = 8; },
                "tensor v has shape [2, 1, 3, 4, 2, 8], must be [2, 1, 3, 4, 2, 5]"},
        BadCall{"extra_k_tokens", [](Call& c) { c.in.extra_k.shape.layout[2] = 2; },
                "tensor extra_k has shape [2, 1, 1, 2, 2, 8], must be [2, 1, 1, 3, 2, 8]"},
        BadCall{"extra_v_dim", [](Call& c) { c.in.extra_v = c.in.extra_k; },
                "tensor extra_v has shape [2, 1, 1, 3, 2, 8], must be [2, 1, 1, 3, 2, 5]"},
        BadCall{"q_type", [](Call& c) { c.in.q.type = ElementType::f32; }, "tensor q is f32, must be bf16"},
        BadCall{"v_type", [](Call& c) { c.in.v.type = ElementType::f16; }, "tensor v is f16, must be bf16"},
        BadCall{"extra_v_type", [](Call& c) { c.in.extra_v.type = ElementType::f16; },
                "tensor extra_v is f16, must be bf16"},
        BadCall{"rpb_missing", [](Call& c) { c.in.rpb = {}; }, "tensor rpb is missing"},
        BadCall{"rpb_heads", [](Call& c) { c.in.rpb.shape.batch = 2; },
                "tensor rpb has shape [2, 1, 3, 3, 1, 1], must be [4, 1, 3, 3, 1, 1]"},
        BadCall{"rpb_of_another_window", [](Call& c) { c.in.rpb.shape.layout[2] = 5; },
                "tensor rpb has shape [4, 1, 3, 5, 1, 1], must be [4, 1, 3, 3, 1, 1]"},
        BadCall{"rpb_dim", [](Call& c) { c.in.rpb.shape.dim = 8; },
                "tensor rpb has shape [4, 1, 3, 3, 1, 8], must be [4, 1, 3, 3, 1, 1]"},
        BadCall{"rpb_type", [](Call& c) { c.in.rpb.type = ElementType::bf16; }, "tensor rpb is bf16, must be f32"},
        BadCall{"rpb_without_a_bias", [](Call& c) { c.problem.relative_bias = false; },
                "tensor rpb is given, but the problem has no relative bias"},
        BadCall{"extra_without_extra_tokens", [](Call& c) { c.problem.extra_tokens = 0; },
                "tensor extra_k is given, but the problem has no extra tokens"},
        BadCall{"extra_v_without_extra_tokens",
                [](Call& c) {
                  c.problem.extra_tokens = 0;
                  c.in.extra_k = {};
                },
                "tensor extra_v is given, but the problem has no extra tokens"},
        BadCall{"problem_type", [](Call& c) { c.problem.type = ElementType::f32; }, "tensor q is bf16, must be f32"},
        BadCall{"problem",
                [](Call& c) {
                  c.problem.axes[1].window = 5;
                  c.problem.heads_kv = 3;
                },
                "axis 2: window 5 must be at most 4, the layout 4 div the dilation 1; heads_kv 3 must divide heads 4"}),
    kTestName);

INSTANTIATE_TEST_SUITE_P(
    Attention, BadOutputs,
    ::testing::Values(BadCall{"out_missing", [](Call& c) { c.outputs.out = {}; }, "tensor out is missing"},
                      BadCall{"lse_missing", [](Call& c) { c.outputs.lse = {}; }, "tensor lse is missing"},
                      BadCall{"out_dim", [](Call& c) { c.outputs.out.shape.dim = 8; },
                              "tensor out has shape [2, 1, 3, 4, 4, 8], must be [2, 1, 3, 4, 4, 5]"},
                      BadCall{"lse_dim", [](Call& c) { c.outputs.lse.shape.dim = 5; },
                              "tensor lse has shape [2, 1, 3, 4, 4, 5], must be [2, 1, 3, 4, 4, 1]"},
                      BadCall{"out_type", [](Call& c) { c.outputs.out.type = ElementType::f16; },
                              "tensor out is f16, must be bf16 or f32"},
                      BadCall{"lse_type", [](Call& c) { c.outputs.lse.type = ElementType::bf16; },
                              "tensor lse is bf16, must be f32"}),
    kTestName);

INSTANTIATE_TEST_SUITE_P(
    Attention, BadBackward,
    ::testing::Values(
        BadCall{"out_missing", [](Call& c) { c.saved.out = {}; }, "tensor out is missing"},
        BadCall{"lse_missing", [](Call& c) { c.saved.lse = {}; }, "tensor lse is missing"},
        BadCall{"dout_missing", [](Call& c) { c.saved.dout = {}; }, "tensor dout is missing"},
        BadCall{"dq_missing", [](Call& c) { c.gradients.dq = {}; }, "tensor dq is missing"},
        BadCall{"dk_missing", [](Call& c) { c.gradients.dk = {}; }, "tensor dk is missing"},
        BadCall{"dv_missing", [](Call& c) { c.gradients.dv = {}; }, "tensor dv is missing"},
        BadCall{"dextra_k_missing", [](Call& c) { c.gradients.dextra_k = {}; }, "tensor dextra_k is missing"},
        BadCall{"dextra_v_missing", [](Call& c) { c.gradients.dextra_v = {}; }, "tensor dextra_v is missing"},
        BadCall{"drpb_missing", [](Call& c) { c.gradients.drpb = {}; }, "tensor drpb is missing"},
        BadCall{"drpb_heads", [](Call& c) { c.gradients.drpb.shape.batch = 2; },
                "tensor drpb has shape [2, 1, 3, 3, 1, 1], must be [4, 1, 3, 3, 1, 1]"},
        BadCall{"drpb_type", [](Call& c) { c.gradients.drpb.type = ElementType::bf16; },
                "tensor drpb is bf16, must be f32"},
        BadCall{"dout_dim", [](Call& c) { c.saved.dout.shape.dim = 8; },
                "tensor dout has shape [2, 1, 3, 4, 4, 8], must be [2, 1, 3, 4, 4, 5]"},
        BadCall{"dout_type", [](Call& c) { c.saved.dout.type = ElementType::f32; }, "tensor dout is f32, must be bf16"},
        BadCall{"dk_heads", [](Call& c) { c.gradients.dk = c.gradients.dq; },
                "tensor dk has shape [2, 1, 3, 4, 4, 8], must be [2, 1, 3, 4, 2, 8]"},
        BadCall{"dv_type", [](Call& c) { c.gradients.dv.type = ElementType::f16; },
                "tensor dv is f16, must be bf16 or f32"}),
    kTestName);

TEST(Attention, UnknownVariantIsRefusedWithTheList) {
  std::string names;
  for (const Variant& variant : variants()) names += (names.empty() ? "" : ", ") + std::string(variant.name);
  Call call;
  call.variant = "fastest";
  EXPECT_EQ(test::error_of([&] { call.forward(); }), "variant 'fastest' is none of " + names);
  EXPECT_EQ(test::error_of([&] { call.backward(); }), "variant 'fastest' is none of " + names);
}

TEST(Attention, UnsupportedProblemsAreRefusedWithTheVariantsOwnSentence) {
  Call call;
  for (const Variant& variant : variants()) {
    call.variant = variant.name;
    EXPECT_EQ(test::error_of([&] { call.forward(); }), variant.supports(call.problem, Pass::forward).value_or(""));
    EXPECT_EQ(test::error_of([&] { call.backward(); }), variant.supports(call.problem, Pass::backward).value_or(""));
  }
}

TEST(Attention, FittingCallsComputeInBothOutputTypes) {
  for (ElementType out_type : {ElementType::f32, ElementType::bf16}) {
    Call call;
    const auto expected = reference::forward(call.problem, call.in);
    call.results = test::tensors_for<Outputs>(call.problem, out_type);
    call.outputs = test::views_of<Outputs>(call.problem, call.results);
    call.forward();
    const auto out = test::to_double(call.outputs.out);
    const auto lse = test::to_double(call.outputs.lse);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double unit = out_type == ElementType::f32 ? 0x1p-24 : 0x1p-8;
      EXPECT_NEAR(out[i], expected.out[i], std::abs(expected.out[i]) * unit);
    }
    for (std::size_t i = 0; i < lse.size(); ++i) EXPECT_EQ(lse[i], static_cast<float>(expected.lse[i]));
  }
}

TEST(Attention, ExtraTensorsAreNotAskedForWithoutExtraTokens) {
  Call call;
  call.problem.extra_tokens = 0;
  call.in.extra_k = {};
  call.in.extra_v = {};
  call.gradients.dextra_k = {};
  call.gradients.dextra_v = {};
  EXPECT_EQ(test::error_of([&] { call.forward(); }), "");
  EXPECT_EQ(test::error_of([&] { call.backward(); }), "");
}

TEST(Attention, ATableOfBiasesIsNotAskedForWithoutABias) {
  Call call;
  call.problem.relative_bias = false;
  call.in.rpb = {};
  call.gradients.drpb = {};
  EXPECT_EQ(test::error_of([&] { call.forward(); }), "");
  EXPECT_EQ(test::error_of([&] { call.backward(); }), "");
}

TEST(Attention, APlanOfTheOtherPassIsRefused) {
  Call call;
  Context context(1);
  const Plan forward = make_plan(call.problem, Pass::forward), backward = make_plan(call.problem, Pass::backward);
  EXPECT_EQ(test::error_of([&] { attention_forward(backward, call.in, call.outputs, context); }),
            "the plan is of the backward pass, must be of the forward");
  EXPECT_EQ(test::error_of([&] { attention_backward(forward, call.in, call.saved, call.gradients, context); }),
            "the plan is of the forward pass, must be of the backward");
}

TEST(Attention, ATensorThatDoesNotFitThePlanIsRefused) {
  Call call;
  Context context(1);
  Problem other = call.problem;
  other.head_dim = 9;
  EXPECT_EQ(test::error_of([&] { attention_forward(make_plan(other, Pass::forward), call.in, call.outputs, context); }),
            "tensor q has shape [2, 1, 3, 4, 4, 8], must be [2, 1, 3, 4, 4, 9]");
}

TEST(Attention, AFlatPlanRefusesTokensThatDoNotLieInARowAndACallWithoutAPlanTakesThem) {
  Call call;
  call.problem = call.problem.self_attention();
  call.in.rpb = {};  // of the window, not of the layout
  const Plan forward = make_plan(call.problem, Pass::forward, {.variant = "dense"});
  const Plan backward = make_plan(call.problem, Pass::backward, {.variant = "dense"});
  Context context(1);
  const auto refusal = [](const Plan& plan) {
    return "tiling " + plan.tiling().to_string() + ": tokens must lie at one distance from each other to be flattened";
  };
  EXPECT_EQ(test::error_of([&] { attention_forward(forward, call.in, call.outputs, context); }), "");
  EXPECT_EQ(test::error_of([&] { attention_backward(backward, call.in, call.saved, call.gradients, context); }), "");
  test::StridedTensor k(call.in.k, test::kX3Gap);
  const auto contiguous = call.in.k;
  call.in.k = k.view();
  EXPECT_EQ(test::error_of([&] { attention_forward(forward, call.in, call.outputs, context); }), refusal(forward));
  EXPECT_EQ(test::error_of([&] { attention_backward(backward, call.in, call.saved, call.gradients, context); }),
            refusal(backward));
  call.variant = "dense";
  EXPECT_EQ(test::error_of([&] { call.forward(); }), "");
  EXPECT_EQ(test::error_of([&] { call.backward(); }), "");
  // So do results.
  call.in.k = contiguous;
  test::StridedTensor dq(ElementType::f32, q_shape(call.problem), test::kX3Gap);
  call.gradients.dq = dq.view();
  EXPECT_EQ(test::error_of([&] { attention_backward(backward, call.in, call.saved, call.gradients, context); }),
            refusal(backward));
}

}  // namespace
}  // namespace nalab
