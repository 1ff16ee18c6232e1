// Strided views of all kinds: gaps along any of the extents, layouts with extents of one. Whether a kernel may see the
// tokens as a row is decided by strides, and a wrong decision would read what lies in the gaps.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/compare.h"
#include "tests/core/kernels/backward.h"

namespace nalab {
namespace {

/// The elements of all results: out, lse, and the gradients in the order of the list.
using Values = std::vector<std::vector<double>>;

std::vector<Problem> problems(const std::vector<Axis>& axes) {
  Problem problem{.axes = axes, .batch = 2, .heads = 2, .heads_kv = 1, .head_dim = 5, .head_dim_v = 3};
  Problem with_extra = problem;
  with_extra.extra_tokens = 2;
  with_extra.type = ElementType::bf16;
  Problem with_bias = with_extra;
  with_bias.relative_bias = true;
  return {problem, with_extra, with_bias};
}

/// A problem of one variant with inputs for both passes.
struct Case {
  const Variant& variant;
  Problem problem;
  test::Data data{problem, 51};
  reference::Forward forward = reference::forward(problem, data.inputs());
  test::Saved rounded{problem, forward, problem.type};
  SavedForBackward saved{rounded.out.view(), rounded.lse.view(), data["dout"].view()};
};

/// On contiguous tensors.
Values contiguous(const Case& c, bool may_flatten) {
  const test::Setting setting{.isa = choose_isa(), .may_flatten = may_flatten, .out_type = c.problem.type};
  auto forward = test::run_forward(c.variant, c.problem, c.data.inputs(), setting);
  Values values{forward.out.values(), forward.lse.values()};
  for (auto& gradient : test::run_backward(c.variant, c.problem, c.data, c.saved, setting)) {
    values.push_back(gradient.values());
  }
  return values;
}

/// With gaps, as a caller does it: whether the tokens lie in a row, the library finds out.
Values with_gaps(const Case& c, unsigned gaps, Context& context) {
  const Problem& problem = c.problem;
  auto inputs = test::strided(problem, c.data.inputs(), gaps);
  auto saved = test::strided(problem, c.saved, gaps);
  auto outputs = test::tensors_for<Outputs, test::StridedTensor>(problem, problem.type, gaps);
  auto gradients = test::tensors_for<Gradients, test::StridedTensor>(problem, problem.type, gaps);
  const auto in = test::views_of<Inputs>(problem, inputs);
  attention_forward(problem, in, test::views_of<Outputs>(problem, outputs), context, {.variant = c.variant.name});
  attention_backward(problem, in, test::views_of<SavedForBackward>(problem, saved),
                     test::views_of<Gradients>(problem, gradients), context, {.variant = c.variant.name});
  Values values;
  for (auto* tensors : {&outputs, &gradients}) {
    for (test::StridedTensor& tensor : *tensors) {
      values.push_back(test::to_double(tensor.view()));
      EXPECT_TRUE(tensor.gaps_intact());
    }
  }
  return values;
}

void expect_right(const Case& c, const Values& values) {
  Values expected{c.forward.out, c.forward.lse};
  for (auto& gradient : test::expected_gradients(c.problem, c.data)) expected.push_back(gradient);
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Tolerance bound = tolerance(c.problem.type, i < 2 ? TensorKind::output : TensorKind::gradient);
    const Comparison errors = compare(std::span(values[i]), std::span(expected[i]), bound, 1);
    EXPECT_TRUE(errors.ok) << "result " << i << ": " << errors.to_string();
  }
}

class Gaps : public ::testing::TestWithParam<std::vector<Axis>> {};

TEST_P(Gaps, AlongAnySubsetOfTheExtentsChangeNoBit) {
  Context context(2);
  for (const Problem& given : problems(GetParam())) {
    for (const Variant& variant : variants()) {
      const Problem problem = test::problem_of(variant, given);
      // Without its bias it is the problem before.
      if (variant.supports(problem, Pass::backward) || problem.relative_bias != given.relative_bias) continue;
      const Case c{variant, problem};
      SCOPED_TRACE(std::string(variant.name) + " " + c.problem.id());
      const Values flat = contiguous(c, true), per_axis = contiguous(c, false);
      expect_right(c, flat);
      expect_right(c, per_axis);
      for (unsigned gaps = 0; gaps <= test::kAllGaps; ++gaps) {
        test::StridedTensor q(c.problem.type, q_shape(c.problem), gaps);
        EXPECT_EQ(with_gaps(c, gaps, context), tokens_in_a_row(q.view()) ? flat : per_axis) << "gaps " << gaps;
        if (HasFailure()) return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, Gaps,
                         ::testing::Values(std::vector<Axis>{{4, 3}, {1}, {8, 5}},
                                           std::vector<Axis>{{1}, {5, 3}, {8, 5}},
                                           std::vector<Axis>{{4, 3}, {6, 4, 2}, {1}}, std::vector<Axis>{{7, 3}},
                                           std::vector<Axis>{{2, 2}, {3, 2}, {4, 3}}),
                         [](const auto& test) {
                           std::string name = "layout";
                           for (const Axis& axis : test.param) name += "_" + std::to_string(axis.extent);
                           return name;
                         });

}  // namespace
}  // namespace nalab
