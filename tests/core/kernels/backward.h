// Running the backward pass of a variant from what the reference's forward pass leaves.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "core/kernels/reference/reference.h"
#include "tests/core/kernels/problems.h"
#include "tests/core/kernels/support.h"

namespace nalab::test {

/// The gradients of a problem in the order of the list: dq, dk, dv, with extra tokens dextra_k and dextra_v, and with a
/// relative bias drpb.
inline std::vector<TensorInfo> gradients_of(const Problem& problem) {
  std::vector<TensorInfo> list;
  const Gradients gradients;
  visit_tensors(problem, gradients, [&](const TensorInfo& info, const auto&) { list.push_back(info); });
  return list;
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

/// Runs a plan; the gradients are in the order of the list. Checks that nothing but them and the workspace is written.
inline std::vector<GuardedTensor> run_backward(const Plan& made, const Inputs& inputs, const SavedForBackward& saved,
                                               const Setting& setting) {
  const Problem& problem = made.problem();
  auto results = tensors_for<Gradients, GuardedTensor>(problem, setting.out_type);
  const Gradients gradients = views_of<Gradients>(problem, results);
  with_workspace(made, setting, [&](const Plan& plan, const Execution& execution) {
    plan.variant().backward(plan, inputs, saved, gradients, execution);
  });
  const auto list = gradients_of(problem);
  for (std::size_t i = 0; i < list.size(); ++i) EXPECT_TRUE(results[i].intact()) << "wrote outside " << list[i].name;
  return results;
}

inline std::vector<GuardedTensor> run_backward(const Variant& variant, const Problem& problem, const Data& data,
                                               const SavedForBackward& saved, const Setting& setting) {
  return run_backward(plan_of(variant, problem, Pass::backward, setting), data.inputs(), saved, setting);
}

inline std::vector<GuardedTensor> run_backward(const Variant& variant, const Problem& problem, const Data& data,
                                               const reference::Forward& forward, const Setting& setting) {
  const Saved saved(problem, forward, setting.out_type);
  return run_backward(variant, problem, data, SavedForBackward{saved.out.view(), saved.lse.view(), data["dout"].view()},
                      setting);
}

inline std::vector<GuardedTensor> run_backward(const Variant& variant, const Problem& problem, const Data& data,
                                               const Setting& setting) {
  return run_backward(variant, problem, data, reference::forward(problem, data.inputs()), setting);
}

/// In the order of the list.
inline std::vector<std::vector<double>> expected_gradients(const Problem& problem, const Data& data) {
  auto named = reference::by_name(reference::backward(problem, data.inputs(), data["dout"].view()));
  std::vector<std::vector<double>> expected;
  for (const TensorInfo& info : gradients_of(problem)) expected.push_back(std::move(named.at(info.name)));
  return expected;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b.at(i);
  return sum;
}

/// Sums over the rows of each kv head of each batch entry, by channel.
inline std::vector<double> sum_by_kv_head(const Problem& problem, const TokenShape& shape,
                                          const std::vector<double>& values) {
  std::vector<double> sums(static_cast<std::size_t>(problem.batch * problem.heads_kv * shape.dim), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto flat = static_cast<int64_t>(i);
    const int64_t kv = flat / shape.dim % shape.heads * problem.heads_kv / shape.heads;
    const int64_t b = flat / (shape.elements() / shape.batch);
    sums.at(static_cast<std::size_t>((b * problem.heads_kv + kv) * shape.dim + flat % shape.dim)) += values[i];
  }
  return sums;
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
