#include "core/tensors.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/core/kernels/support.h"

namespace nalab {
namespace {

Problem problem_with(int64_t extra_tokens) {
  return {.axes = {{.extent = 3, .window = 2}, {.extent = 4, .window = 2}},
          .batch = 2,
          .heads = 4,
          .heads_kv = 2,
          .head_dim = 8,
          .head_dim_v = 5,
          .extra_tokens = extra_tokens,
          .type = ElementType::bf16};
}

std::string_view name(Role role) {
  constexpr std::string_view kNames[] = {"input", "output", "output_gradient", "gradient"};
  return kNames[static_cast<std::size_t>(role)];
}

/// "q input bf16 [2, 3, 4, 4, 8]"
std::string text_of(const TensorInfo& info, const Problem& problem) {
  std::string text =
      std::string(info.name) + " " + std::string(name(info.role)) + " " + std::string(nalab::name(info.type)) + " [";
  for (const int64_t extent : info.extents(problem)) text += (text.back() == '[' ? "" : ", ") + std::to_string(extent);
  return text + "]" +
         (info.over == Over::layout         ? ""
          : info.over == Over::extra_tokens ? " extra"
                                            : " offsets") +
         (info.is_result() ? " result" : "");
}

using Texts = std::vector<std::string>;

Texts list_of(const Problem& problem, Pass pass) {
  Texts list;
  for (const TensorInfo& info : tensors_of(problem, pass)) list.push_back(text_of(info, problem));
  return list;
}

TEST(Tensors, AreListedWithNamesRolesTypesAndExtents) {
  EXPECT_EQ(
      list_of(problem_with(3), Pass::backward),
      (Texts{"q input bf16 [2, 3, 4, 4, 8]", "k input bf16 [2, 3, 4, 2, 8]", "v input bf16 [2, 3, 4, 2, 5]",
             "extra_k input bf16 [2, 3, 2, 8] extra", "extra_v input bf16 [2, 3, 2, 5] extra",
             "dout output_gradient bf16 [2, 3, 4, 4, 5]", "out output bf16 [2, 3, 4, 4, 5] result",
             "lse output f32 [2, 3, 4, 4] result", "dq gradient bf16 [2, 3, 4, 4, 8] result",
             "dk gradient bf16 [2, 3, 4, 2, 8] result", "dv gradient bf16 [2, 3, 4, 2, 5] result",
             "dextra_k gradient bf16 [2, 3, 2, 8] extra result", "dextra_v gradient bf16 [2, 3, 2, 5] extra result"}));
}

TEST(Tensors, OfExtraTokensAreThereOnlyIfThereAreAnyAndThoseOfThePassOnlyIfAskedFor) {
  EXPECT_EQ(list_of(problem_with(0), Pass::forward),
            (Texts{"q input bf16 [2, 3, 4, 4, 8]", "k input bf16 [2, 3, 4, 2, 8]", "v input bf16 [2, 3, 4, 2, 5]",
                   "out output bf16 [2, 3, 4, 4, 5] result", "lse output f32 [2, 3, 4, 4] result"}));
  EXPECT_EQ(list_of(problem_with(0), Pass::backward).size(), 9u);
  EXPECT_EQ(list_of(problem_with(1), Pass::forward).size(), 7u);
}

/// problem_with() and a relative bias; windows 2 and 3.
Problem with_bias(int64_t extra_tokens) {
  Problem problem = problem_with(extra_tokens);
  problem.axes[1].window = 3;
  problem.relative_bias = true;
  return problem;
}

TEST(Tensors, OfARelativeBiasAreF32AndOfTheWindowsOffsets) {
  EXPECT_EQ(list_of(with_bias(0), Pass::backward),
            (Texts{"q input bf16 [2, 3, 4, 4, 8]", "k input bf16 [2, 3, 4, 2, 8]", "v input bf16 [2, 3, 4, 2, 5]",
                   "rpb input f32 [4, 3, 5] offsets", "dout output_gradient bf16 [2, 3, 4, 4, 5]",
                   "out output bf16 [2, 3, 4, 4, 5] result", "lse output f32 [2, 3, 4, 4] result",
                   "dq gradient bf16 [2, 3, 4, 4, 8] result", "dk gradient bf16 [2, 3, 4, 2, 8] result",
                   "dv gradient bf16 [2, 3, 4, 2, 5] result", "drpb gradient f32 [4, 3, 5] offsets result"}));
  EXPECT_EQ(list_of(with_bias(3), Pass::forward).at(5), "rpb input f32 [4, 3, 5] offsets");
  for (ElementType type : test::kElementTypes) {
    Problem problem = with_bias(0);
    problem.type = type;
    EXPECT_EQ(find_tensor(problem, "rpb")->type, ElementType::f32);
    EXPECT_EQ(find_tensor(problem, "drpb")->type, ElementType::f32);
  }
}

TEST(Tensors, OfARelativeBiasHaveAnExtentForEachAxis) {
  std::vector<Axis> axes;
  std::vector<int64_t> extents{4};
  for (int64_t window : {2, 1, 4}) {
    axes.push_back({.extent = 8, .window = window, .stride = window, .dilation = 2, .causal = window == 4});
    extents.push_back(2 * window - 1);
    Problem problem = with_bias(3);
    problem.axes = axes;
    for (const char* name : {"rpb", "drpb"}) EXPECT_EQ(find_tensor(problem, name)->extents(problem), extents) << name;
    EXPECT_EQ(rpb_shape(problem).elements(), 4 * problem.bias_entries());
  }
}

TEST(Tensors, OfTheSplitOperators) {
  EXPECT_EQ(
      list_of(with_bias(3), Pass::weights),
      (Texts{"q input bf16 [2, 3, 4, 4, 8]", "k input bf16 [2, 3, 4, 2, 8]", "extra_k input bf16 [2, 3, 2, 8] extra",
             "rpb input f32 [4, 3, 5] offsets", "attn output bf16 [2, 3, 4, 4, 9] result"}));
  EXPECT_EQ(list_of(with_bias(3), Pass::weights_backward),
            (Texts{"q input bf16 [2, 3, 4, 4, 8]", "k input bf16 [2, 3, 4, 2, 8]",
                   "extra_k input bf16 [2, 3, 2, 8] extra", "dattn output_gradient bf16 [2, 3, 4, 4, 9]",
                   "dq gradient bf16 [2, 3, 4, 4, 8] result", "dk gradient bf16 [2, 3, 4, 2, 8] result",
                   "dextra_k gradient bf16 [2, 3, 2, 8] extra result", "drpb gradient f32 [4, 3, 5] offsets result"}));
  EXPECT_EQ(list_of(with_bias(3), Pass::values),
            (Texts{"attn input bf16 [2, 3, 4, 4, 9]", "v input bf16 [2, 3, 4, 2, 5]",
                   "extra_v input bf16 [2, 3, 2, 5] extra", "out output bf16 [2, 3, 4, 4, 5] result"}));
  EXPECT_EQ(
      list_of(with_bias(3), Pass::values_backward),
      (Texts{"attn input bf16 [2, 3, 4, 4, 9]", "v input bf16 [2, 3, 4, 2, 5]", "extra_v input bf16 [2, 3, 2, 5] extra",
             "dout output_gradient bf16 [2, 3, 4, 4, 5]", "dattn gradient bf16 [2, 3, 4, 4, 9] result",
             "dv gradient bf16 [2, 3, 4, 2, 5] result", "dextra_v gradient bf16 [2, 3, 2, 5] extra result"}));
  EXPECT_EQ(list_of(problem_with(0), Pass::weights),
            (Texts{"q input bf16 [2, 3, 4, 4, 8]", "k input bf16 [2, 3, 4, 2, 8]",
                   "attn output bf16 [2, 3, 4, 4, 4] result"}));
  EXPECT_EQ(list_of(problem_with(0), Pass::weights_backward).size(), 5u);
  EXPECT_EQ(list_of(problem_with(0), Pass::values).size(), 3u);
  EXPECT_EQ(list_of(problem_with(0), Pass::values_backward).size(), 5u);
}

TEST(Tensors, EveryTensorOfASplitOperatorThatAttentionHasToIsTheSame) {
  const Problem problem = with_bias(3);
  for (const Pass pass : kPasses) {
    for (const TensorInfo& info : tensors_of(problem, pass)) {
      if (info.name == "attn" || info.name == "dattn") {
        EXPECT_FALSE(find_tensor(problem, info.name)) << "not in files";
        EXPECT_EQ(info.shape, attn_shape(problem));
      } else {
        EXPECT_EQ(text_of(info, problem), text_of(*find_tensor(problem, info.name), problem)) << name(pass);
      }
    }
  }
}

TEST(Tensors, ShapesEmbedTheLayoutInThreeAxes) {
  const Problem p = problem_with(3);
  EXPECT_EQ(q_shape(p), (TokenShape{2, {1, 3, 4}, 4, 8}));
  EXPECT_EQ(k_shape(p), (TokenShape{2, {1, 3, 4}, 2, 8}));
  EXPECT_EQ(v_shape(p), (TokenShape{2, {1, 3, 4}, 2, 5}));
  EXPECT_EQ(extra_k_shape(p), (TokenShape{2, {1, 1, 3}, 2, 8}));
  EXPECT_EQ(extra_v_shape(p), (TokenShape{2, {1, 1, 3}, 2, 5}));
  EXPECT_EQ(out_shape(p), (TokenShape{2, {1, 3, 4}, 4, 5}));
  EXPECT_EQ(lse_shape(p), (TokenShape{2, {1, 3, 4}, 4, 1}));
  EXPECT_EQ(attn_shape(p), (TokenShape{2, {1, 3, 4}, 4, 2 * 2 + 3}));
  EXPECT_EQ(rpb_shape(with_bias(3)), (TokenShape{4, {1, 3, 5}, 1, 1}));
}

/// The names that a visit of a bundle meets, and whether each view is the one that the bundle holds.
template <class Bundle>
std::string visited(const Problem& problem, Bundle& bundle) {
  std::string names;
  visit_tensors(problem, bundle, [&](const TensorInfo& info, auto& view) {
    const auto* first = reinterpret_cast<const char*>(&bundle);
    const auto* at = reinterpret_cast<const char*>(&view);
    EXPECT_TRUE(at >= first && at < first + sizeof bundle) << info.name;
    names += std::string(info.name) + " ";
  });
  return names;
}

TEST(Tensors, EveryBundleIsVisitedInTheOrderOfTheList) {
  Inputs inputs;
  Outputs outputs;
  const SavedForBackward saved;
  Gradients gradients;
  EXPECT_EQ(visited(problem_with(3), inputs), "q k v extra_k extra_v ");
  EXPECT_EQ(visited(problem_with(0), inputs), "q k v ");
  EXPECT_EQ(visited(problem_with(3), outputs), "out lse ");
  EXPECT_EQ(visited(problem_with(3), saved), "out lse dout ");
  EXPECT_EQ(visited(problem_with(3), gradients), "dq dk dv dextra_k dextra_v ");
  EXPECT_EQ(visited(problem_with(0), gradients), "dq dk dv ");
  EXPECT_EQ(visited(with_bias(3), inputs), "q k v extra_k extra_v rpb ");
  EXPECT_EQ(visited(with_bias(0), inputs), "q k v rpb ");
  EXPECT_EQ(visited(with_bias(3), gradients), "dq dk dv dextra_k dextra_v drpb ");
  EXPECT_EQ(visited(with_bias(0), gradients), "dq dk dv drpb ");
  visit_tensors(problem_with(3), gradients, [](const TensorInfo& info, TensorView& view) { view.shape = info.shape; });
  EXPECT_EQ(gradients.dv.shape, v_shape(problem_with(3)));
  EXPECT_EQ(gradients.dextra_k.shape, extra_k_shape(problem_with(3)));
}

/// Whether the tokens lie at one distance from each other, token by token.
bool in_a_row_by_tokens(const ConstTensorView& view) {
  const auto& [x1, x2, x3] = view.shape.layout;
  const auto& stride = view.strides.layout;
  int64_t index = 0;
  for (int64_t i = 0; i < x1; ++i) {
    for (int64_t j = 0; j < x2; ++j) {
      for (int64_t k = 0; k < x3; ++k, ++index) {
        if (i * stride[0] + j * stride[1] + k * stride[2] != index * stride[2]) return false;
      }
    }
  }
  return true;
}

TEST(Tensors, AreFoundByNameAsTheListHasThem) {
  const Problem problem = with_bias(3);
  for (const TensorInfo& info : tensors_of(problem, Pass::backward)) {
    const auto found = find_tensor(problem, info.name);
    ASSERT_TRUE(found) << info.name;
    EXPECT_EQ(text_of(*found, problem), text_of(info, problem));
  }
  EXPECT_FALSE(find_tensor(problem, "dlse"));
  const Problem without = problem_with(0);
  EXPECT_EQ(find_tensor(without, "extra_k")->extents(without), (std::vector<int64_t>{2, 0, 2, 8}));
}

TEST(TokensInARow, AreThoseAtOneDistanceFromEachOther) {
  int rows = 0;
  for (int64_t x1 : {1, 2, 4}) {
    for (int64_t x2 : {1, 3}) {
      for (int64_t x3 : {1, 2, 8}) {
        for (unsigned gaps = 0; gaps <= test::kAllGaps; ++gaps) {
          test::StridedTensor tensor(ElementType::f32, {2, {x1, x2, x3}, 2, 3}, gaps);
          const bool expected = in_a_row_by_tokens(tensor.view());
          EXPECT_EQ(tokens_in_a_row(tensor.view()), expected) << x1 << "x" << x2 << "x" << x3 << " gaps " << gaps;
          rows += expected;
        }
      }
    }
  }
  EXPECT_GT(rows, 400) << "gaps along other extents do not matter";
}

// Layout 4x1x8 as a part of 4x1x100: the middle axis says nothing about the distance between rows.
TEST(TokensInARow, ASliceAlongTheLastAxisIsNotIfTheMiddleExtentIsOne) {
  ConstTensorView view{nullptr, ElementType::f32, {1, {4, 1, 8}, 1, 1}, {400, {100, 100, 1}, 1}};
  EXPECT_FALSE(tokens_in_a_row(view));
  view.strides.layout = {8, 8, 1};
  EXPECT_TRUE(tokens_in_a_row(view));
}

TEST(TokensInARow, OfABundleAreThoseOfAllTensorsOverTheLayout) {
  const Problem problem = with_bias(3);
  const test::Data data(problem, 1);
  const Inputs inputs = data.inputs();
  EXPECT_TRUE(tokens_in_a_row(problem, inputs));
  visit_tensors(problem, inputs, [&](const TensorInfo& info, const ConstTensorView& view) {
    test::StridedTensor tensor(view, test::kX3Gap);
    Inputs with_gap = inputs;
    visit_tensors(problem, with_gap, [&](const TensorInfo& other, ConstTensorView& target) {
      if (other.name == info.name) target = tensor.view();
    });
    EXPECT_EQ(tokens_in_a_row(problem, with_gap), info.over != Over::layout) << info.name;
  });
}

TEST(Flattened, KeepsEveryTokenWhereItIs) {
  const Problem problem = with_bias(3);
  const test::Data data(problem, 1);
  auto memory = test::strided(problem, data.inputs(), test::kBatchGap | test::kHeadsGap | test::kDimGap);
  const auto inputs = test::views_of<Inputs>(problem, memory);
  ASSERT_TRUE(tokens_in_a_row(problem, inputs));
  const Inputs flat = flattened(problem, inputs);
  EXPECT_EQ(flat.q.shape, (TokenShape{2, {1, 1, 12}, 4, 8}));
  EXPECT_EQ(flat.v.shape, (TokenShape{2, {1, 1, 12}, 2, 5}));
  EXPECT_EQ(flat.extra_k.shape, inputs.extra_k.shape) << "not over the layout";
  EXPECT_EQ(flat.rpb.shape, inputs.rpb.shape) << "not over the layout";
  for (const auto& [a, b] : {std::pair{flat.q, inputs.q}, {flat.k, inputs.k}, {flat.extra_v, inputs.extra_v}}) {
    EXPECT_EQ(test::to_double(a), test::to_double(b));
  }
}

}  // namespace
}  // namespace nalab
