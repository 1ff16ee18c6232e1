// dense: self attention over all tokens, the baseline of the speedups.
//
// The fused machinery on tokens in a row, by a flat tiling: every tile is full and no mask is ever looked at. Tensors
// whose tokens do not lie at one distance from each other keep their axes, and take another tiling; so do biases of
// offsets along several axes.
#include "core/kernels/fused/fused.h"
#include "core/kernels/variants.h"
#include "core/tuning/cost_model.h"

namespace nalab::dense {

namespace {

Problem flattened(const Problem& problem) {
  Problem row = problem;
  const int64_t tokens = problem.tokens();
  row.axes = {{.extent = tokens, .window = tokens, .causal = !problem.is_self_attention()}};
  return row;
}

/// Calls compute(problem, tensors...) with the problem and bundles of tensors that the plan's tiling is for.
template <class Compute, class... Bundle>
void with_plan(const Plan& plan, const Compute& compute, const Bundle&... bundle) {
  if (plan.tiling().flat) {
    compute(flattened(plan.problem()), nalab::flattened(plan.problem(), bundle)...);
  } else {
    compute(plan.problem(), bundle...);
  }
}

std::optional<std::string> supports(const Problem& problem, Pass pass) {
  const bool causal_row = problem.rank() == 1 && problem.axes[0].window == problem.axes[0].extent;
  if (!problem.is_self_attention() && !causal_row) {
    return problem.relative_bias
               ? "dense computes self attention only, and takes a bias only if the window is the layout"
               : "dense computes self attention only, and a window leaves tokens out";
  }
  return fused::unsupported("dense", problem, pass);
}

std::vector<Tiling> candidates(const Problem& problem, Pass pass, const Arithmetic& arithmetic, const Machine& machine,
                               std::size_t most) {
  using geometry::KvTiling;
  std::vector<Tiling> tilings;
  // The offsets along several axes are not those along one.
  if (!problem.relative_bias || problem.rank() == 1) {
    tilings = tuning::candidates(flattened(problem), pass, arithmetic, KvTiling::dynamic_tiles, machine, most);
  }
  for (Tiling& tiling : tilings) tiling.flat = true;
  const auto per_axis =
      tuning::candidates(problem, pass, arithmetic, KvTiling::dynamic_tiles, machine, most - tilings.size());
  tilings.insert(tilings.end(), per_axis.begin(), per_axis.end());
  return tilings;
}

PlanCost cost(const PlanChoice& choice) {
  if (!choice.tiling->flat) return fused::cost(choice);
  PlanChoice flat = choice;
  flat.problem = flattened(choice.problem);
  return fused::cost(flat);
}

void forward(const Plan& plan, const Inputs& in, const Outputs& out, const Execution& execution) {
  with_plan(
      plan, [&](const auto&... problem_and_tensors) { fused::forward(plan, problem_and_tensors..., execution); }, in,
      out);
}

void pack(const Plan& plan, const Inputs& in, const Execution& execution) {
  with_plan(
      plan, [&](const auto&... problem_and_tensors) { fused::pack(plan, problem_and_tensors..., execution); }, in);
}

void backward(const Plan& plan, const Inputs& in, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution) {
  with_plan(
      plan, [&](const auto&... problem_and_tensors) { fused::backward(plan, problem_and_tensors..., execution); }, in,
      saved, gradients);
}

}  // namespace

Variant variant() {
  return {
      .name = "dense",
      .paper_term = "self attention (FMHA)",
      .summary = "Every query attends to every token: the baseline of the speedups.",
      .self_attention_only = true,
      .expected_flops_per_second = 50e9,
      .supports = supports,
      .takes = fused::takes,
      .pays = fused::pays,
      .candidates = candidates,
      .cost = cost,
      .forward = forward,
      .backward = backward,
      .pack = pack,
  };
}

}  // namespace nalab::dense
