// How the registry reaches an unfused variant: one function for all passes.
#pragma once

#include "core/kernels/registry.h"

namespace nalab::unfused {

/// The tensors of a call: those that its pass has.
struct Call {
  const Inputs& in;
  Outputs out = {};           ///< values: `out` alone
  ConstTensorView dout = {};  ///< backward, values_backward
  ConstTensorView attn = {};  ///< values, values_backward; weights_backward: dattn
  TensorView made_attn = {};  ///< weights; values_backward: dattn
  const Gradients gradients = {};
};

using Run = void (*)(const Plan& plan, const Call& call, const Execution& execution);

template <Run run>
void forward(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
  run(plan, {.in = inputs, .out = outputs}, execution);
}

template <Run run>
void backward(const Plan& plan, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution) {
  run(plan, {.in = inputs, .dout = saved.dout, .gradients = gradients}, execution);
}

template <Run run>
inline constexpr SplitOperators kSplitOperators{
    .weights = [](const Plan& plan, const Inputs& inputs, const TensorView& attn,
                  const Execution& execution) { run(plan, {.in = inputs, .made_attn = attn}, execution); },
    .weights_backward =
        [](const Plan& plan, const Inputs& inputs, const ConstTensorView& dattn, const Gradients& gradients,
           const Execution& execution) { run(plan, {.in = inputs, .attn = dattn, .gradients = gradients}, execution); },
    .values =
        [](const Plan& plan, const ConstTensorView& attn, const Inputs& inputs, const TensorView& out,
           const Execution& execution) {
          run(plan, {.in = inputs, .out = {.out = out, .lse = {}}, .attn = attn}, execution);
        },
    .values_backward =
        [](const Plan& plan, const ConstTensorView& attn, const Inputs& inputs, const ConstTensorView& dout,
           const TensorView& dattn, const Gradients& gradients, const Execution& execution) {
          run(plan, {.in = inputs, .dout = dout, .attn = attn, .made_attn = dattn, .gradients = gradients}, execution);
        },
};

}  // namespace nalab::unfused
