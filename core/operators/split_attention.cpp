#include "core/operators/split_attention.h"

#include <map>
#include <string_view>

#include "core/kernels/registry.h"
#include "core/tensor/check.h"

namespace nalab {

namespace {

/// The tensor of a name in either bundle.
ConstTensorView view_of(const Inputs& inputs, const Gradients& gradients, std::string_view name) {
  for (const TensorEntry& entry : tensor_list::kInputs) {
    if (entry.name == name) return inputs.*entry.input;
    if (entry.gradient_name == name) return gradients.*entry.gradient;
  }
  return {};
}

/// Makes the call of a plan of a pass, once its tensors are checked. `views`: its tensors besides those of the bundles.
template <class Compute>
void run(const Plan& plan, Pass pass, const Inputs& inputs, const Gradients& gradients,
         const std::map<std::string_view, ConstTensorView>& views, Context& context, const Compute& compute) {
  require_pass(plan, pass);
  refuse_unused(plan.problem(), inputs, pass);
  for (const TensorInfo& info : tensors_of(plan.problem(), pass)) {
    const auto view = views.find(info.name);
    const ConstTensorView found = view != views.end() ? view->second : view_of(inputs, gradients, info.name);
    // attn and its gradient may be f32 as results may, also if they are given.
    if (info.is_result() || info.name == "attn" || info.name == "dattn") {
      check_output(info.name, found, info.shape, info.type);
    } else {
      check_input(info.name, found, info.shape, info.type);
    }
  }
  const Context::Workspace workspace(context, plan.workspace_bytes(context.threads()));
  compute(*plan.variant().split, Execution{context.workers(), workspace.bytes()});
}

}  // namespace

void attention_weights(const Plan& plan, const Inputs& inputs, const TensorView& attn, Context& context) {
  run(plan, Pass::weights, inputs, {}, {{"attn", attn}}, context,
      [&](const SplitOperators& split, const Execution& e) { split.weights(plan, inputs, attn, e); });
}

void attention_weights_backward(const Plan& plan, const Inputs& inputs, const ConstTensorView& dattn,
                                const Gradients& gradients, Context& context) {
  run(plan, Pass::weights_backward, inputs, gradients, {{"dattn", dattn}}, context,
      [&](const SplitOperators& split, const Execution& e) {
        split.weights_backward(plan, inputs, dattn, gradients, e);
      });
}

void attention_values(const Plan& plan, const ConstTensorView& attn, const Inputs& inputs, const TensorView& out,
                      Context& context) {
  run(plan, Pass::values, inputs, {}, {{"attn", attn}, {"out", out}}, context,
      [&](const SplitOperators& split, const Execution& e) { split.values(plan, attn, inputs, out, e); });
}

void attention_values_backward(const Plan& plan, const ConstTensorView& attn, const Inputs& inputs,
                               const ConstTensorView& dout, const TensorView& dattn, const Gradients& gradients,
                               Context& context) {
  run(plan, Pass::values_backward, inputs, gradients, {{"attn", attn}, {"dout", dout}, {"dattn", dattn}}, context,
      [&](const SplitOperators& split, const Execution& e) {
        split.values_backward(plan, attn, inputs, dout, dattn, gradients, e);
      });
}

void attention_weights(const Problem& problem, const Inputs& inputs, const TensorView& attn, Context& context,
                       const PlanOptions& options) {
  attention_weights(make_plan(problem, Pass::weights, options), inputs, attn, context);
}

void attention_weights_backward(const Problem& problem, const Inputs& inputs, const ConstTensorView& dattn,
                                const Gradients& gradients, Context& context, const PlanOptions& options) {
  attention_weights_backward(make_plan(problem, Pass::weights_backward, options), inputs, dattn, gradients, context);
}

void attention_values(const Problem& problem, const ConstTensorView& attn, const Inputs& inputs, const TensorView& out,
                      Context& context, const PlanOptions& options) {
  attention_values(make_plan(problem, Pass::values, options), attn, inputs, out, context);
}

void attention_values_backward(const Problem& problem, const ConstTensorView& attn, const Inputs& inputs,
                               const ConstTensorView& dout, const TensorView& dattn, const Gradients& gradients,
                               Context& context, const PlanOptions& options) {
  attention_values_backward(make_plan(problem, Pass::values_backward, options), attn, inputs, dout, dattn, gradients,
                            context);
}

}  // namespace nalab
