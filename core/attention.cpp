#include "core/attention.h"

#include "core/kernels/registry.h"

namespace nalab {

namespace {

/// Throws Error if a plan is for another pass, or flattens tokens that do not lie at one distance from each other.
template <class... Bundle>
void check_plan(const Plan& plan, Pass pass, const Bundle&... bundle) {
  require_pass(plan, pass);
  if (!plan.has_tiling() || !plan.tiling().flat) return;
  if (!(tokens_in_a_row(plan.problem(), bundle) && ...)) throw cannot_flatten(plan.tiling());
}

template <class... Bundle>
PlanOptions options_for(const Problem& problem, PlanOptions options, const Bundle&... bundle) {
  options.tokens_in_a_row = (tokens_in_a_row(problem, bundle) && ...);
  return options;
}

}  // namespace

void attention_forward(const Plan& plan, const Inputs& inputs, const Outputs& outputs, Context& context) {
  check(plan.problem(), inputs, outputs);
  check_plan(plan, Pass::forward, inputs, outputs);
  const Context::Workspace workspace(context, plan.workspace_bytes(context.threads()));
  plan.variant().forward(plan, inputs, outputs, {context.workers(), workspace.bytes()});
}

void attention_backward(const Plan& plan, const Inputs& inputs, const SavedForBackward& saved,
                        const Gradients& gradients, Context& context) {
  check(plan.problem(), inputs, saved, gradients);
  check_plan(plan, Pass::backward, inputs, saved, gradients);
  const Context::Workspace workspace(context, plan.workspace_bytes(context.threads()));
  plan.variant().backward(plan, inputs, saved, gradients, {context.workers(), workspace.bytes()});
}

void attention_forward(const Problem& problem, const Inputs& inputs, const Outputs& outputs, Context& context,
                       const PlanOptions& options) {
  problem.validate();
  const PlanOptions all = options_for(problem, options, inputs, outputs);
  attention_forward(make_plan(problem, Pass::forward, all), inputs, outputs, context);
}

void attention_backward(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved,
                        const Gradients& gradients, Context& context, const PlanOptions& options) {
  problem.validate();
  const PlanOptions all = options_for(problem, options, inputs, saved, gradients);
  attention_backward(make_plan(problem, Pass::backward, all), inputs, saved, gradients, context);
}

}  // namespace nalab
