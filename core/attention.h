// Attention on a caller's tensors: by a plan, or by a plan that is made for the call.
#pragma once

#include "context.h"
#include "plan.h"
#include "tensors.h"

namespace nalab {

/// Computes what a plan of the forward pass says.
/// Throws Error if the plan is for the other pass, or a tensor does not fit its problem or its tiling.
void attention_forward(const Plan& plan, const Inputs& inputs, const Outputs& outputs, Context& context);
/// The gradients of sum(out * dout), by a plan of the backward pass. Throws Error as attention_forward does.
void attention_backward(const Plan& plan, const Inputs& inputs, const SavedForBackward& saved,
                        const Gradients& gradients, Context& context);

/// Makes a plan and computes it; options.tokens_in_a_row is taken from the tensors. Callers who repeat a problem save
/// the planning time by keeping the plan. Throws Error as make_plan and attention_forward do.
void attention_forward(const Problem& problem, const Inputs& inputs, const Outputs& outputs, Context& context,
                       const PlanOptions& options = {});
void attention_backward(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved,
                        const Gradients& gradients, Context& context, const PlanOptions& options = {});

}  // namespace nalab
