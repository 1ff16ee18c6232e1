// The published use cases at their full layouts, on sampled queries.
#include <gtest/gtest.h>

#include <ostream>
#include <vector>

#include "core/compare.h"
#include "core/kernels/reference/reference.h"
#include "tests/core/kernels/support.h"

namespace nalab {
namespace {

struct UseCase {
  const char* name;
  ElementType type;
  std::vector<Axis> axes;
};
void PrintTo(const UseCase& use_case, std::ostream* out) { *out << use_case.name; }

class UseCases : public ::testing::TestWithParam<UseCase> {};

/// The corners, and a few queries between them.
std::vector<reference::Query> sample(const Problem& problem) {
  const auto axes = problem.axes3();
  std::vector<reference::Query> queries;
  for (int i = 0; i < 8; ++i) {
    reference::Query query;
    for (int axis = 0; axis < 3; ++axis) query.token[axis] = (i >> axis & 1) * (axes[axis].extent - 1);
    queries.push_back(query);
    for (int axis = 0; axis < 3; ++axis) query.token[axis] = axes[axis].extent * (2 * i + axis + 1) / 20;
    queries.push_back(query);
  }
  return queries;
}

// Window and stride as published with Generalized NA (2504.16922), head_dim 128, one head.
TEST_P(UseCases, FusedAgreesWithTheReferenceOnSampledQueries) {
  if (best_isa() == Isa::baseline) GTEST_SKIP() << "takes minutes without vector instructions";
  const Problem problem{.axes = GetParam().axes, .head_dim = 128, .head_dim_v = 128, .type = GetParam().type};
  const test::Data data(problem, 30);
  Tensor out(problem.type, out_shape(problem)), lse(ElementType::f32, lse_shape(problem));
  Context context(2);
  attention_forward(problem, data.inputs(), {out.view(), lse.view()}, context, {.variant = "fused"});

  const std::vector<reference::Query> queries = sample(problem);
  const reference::Forward expected = reference::forward(problem, data.inputs(), queries);
  std::vector<double> got_out, got_lse;
  for (const reference::Query& query : queries) {
    with_element_type(problem.type, [&](auto element) {
      const auto* row = out.view().as<decltype(element)>().row(0, query.token, 0);
      for (int64_t c = 0; c < problem.head_dim_v; ++c) got_out.push_back(to_float(row[c]));
    });
    got_lse.push_back(*lse.view().as<float>().row(0, query.token, 0));
  }
  const Tolerance bound = tolerance(problem.type, TensorKind::output, expected.max_abs_score);
  const Comparison out_errors = compare(std::span(got_out), std::span(expected.out), bound, 1.0);
  EXPECT_TRUE(out_errors.ok) << "out: " << out_errors.to_string();
  const Comparison lse_errors = compare(std::span(got_lse), std::span(expected.lse), bound, 1.0);
  EXPECT_TRUE(lse_errors.ok) << "lse: " << lse_errors.to_string();
}

INSTANTIATE_TEST_SUITE_P(
    FullLayouts, UseCases,
    ::testing::Values(UseCase{"HunyuanVideo", ElementType::f32, {{30, 18}, {48, 24}, {80, 24}}},
                      UseCase{"HunyuanVideoStride16x8x8", ElementType::bf16, {{30, 18, 16}, {48, 24, 8}, {80, 24, 8}}},
                      UseCase{"Cosmos", ElementType::f16, {{16, 16}, {44, 24}, {80, 16}}},
                      UseCase{"CosmosStride1x8x16", ElementType::f32, {{16, 16, 1}, {44, 24, 8}, {80, 16, 16}}},
                      UseCase{"Flux", ElementType::bf16, {{256, 80}, {256, 80}}},
                      UseCase{"FluxStride16x16", ElementType::f32, {{256, 80, 16}, {256, 80, 16}}}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace nalab
