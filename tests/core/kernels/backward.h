// Running the backward pass of a variant from what the reference's forward pass leaves.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "core/kernels/reference.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/kernels/support.h"

namespace nalab::test {

inline constexpr int kGradients = 5;
inline constexpr std::array kGradientNames{"dq", "dk", "dv", "dextra_k", "dextra_v"};

inline std::array<TokenShape, kGradients> gradient_shapes(const Problem& problem) {
  return {q_shape(problem), k_shape(problem), v_shape(problem), extra_k_shape(problem), extra_v_shape(problem)};
}

/// out and lse of the reference, rounded.
struct Saved {
  Tensor out, lse;

  Saved(const Problem& problem, const reference::Forward& forward, ElementType out_type)
      : out(out_type, out_shape(problem)), lse(ElementType::f32, lse_shape(problem)) {
    for (int64_t i = 0; i < out.elements(); ++i) set(out, i, forward.out[static_cast<std::size_t>(i)]);
    for (int64_t i = 0; i < lse.elements(); ++i) set(lse, i, forward.lse[static_cast<std::size_t>(i)]);
  }
};

/// dq, dk, dv, dextra_k, dextra_v; the last two are empty without extra tokens. Checks that nothing but the results and
/// the workspace is written.
inline std::vector<GuardedTensor> run_backward(const Variant& variant, const Problem& problem, const Data& data,
                                               const SavedForBackward& saved, const Setting& setting) {
  std::vector<GuardedTensor> results;
  for (const TokenShape& shape : gradient_shapes(problem)) results.emplace_back(setting.out_type, shape);
  const bool extra = problem.extra_tokens > 0;
  const Gradients gradients{results[0].view(), results[1].view(), results[2].view(),
                            extra ? results[3].view() : TensorView{}, extra ? results[4].view() : TensorView{}};
  with_workspace(variant, problem, Pass::backward, setting, [&](const Execution& execution) {
    variant.backward(problem, data.inputs(), saved, gradients, execution);
  });
  for (int i = 0; i < kGradients; ++i) EXPECT_TRUE(results[i].intact()) << "wrote outside " << kGradientNames[i];
  return results;
}

inline std::vector<GuardedTensor> run_backward(const Variant& variant, const Problem& problem, const Data& data,
                                               const reference::Forward& forward, const Setting& setting) {
  const Saved saved(problem, forward, setting.out_type);
  return run_backward(variant, problem, data, SavedForBackward{saved.out.view(), saved.lse.view(), data.dout.view()},
                      setting);
}

inline std::vector<GuardedTensor> run_backward(const Variant& variant, const Problem& problem, const Data& data,
                                               const Setting& setting) {
  return run_backward(variant, problem, data, reference::forward(problem, data.inputs()), setting);
}

inline std::array<std::vector<double>, kGradients> expected_gradients(const Problem& problem, const Data& data) {
  auto g = reference::backward(problem, data.inputs(), data.dout.view());
  return {std::move(g.dq), std::move(g.dk), std::move(g.dv), std::move(g.dextra_k), std::move(g.dextra_v)};
}

/// Calls f(variant, problem) for all that support the backward pass of the problem, or of self attention in its place.
template <class F>
void for_every_backward(const Problem& given, F f) {
  for (const Variant& variant : variants()) {
    const Problem problem = problem_of(variant, given);
    if (!variant.supports(problem, Pass::backward)) f(variant, problem);
  }
}

}  // namespace nalab::test
