// The weights themselves: attention in two operators, for callers who work on the weights between the products
// (dropout, mixing of heads, maps). With a softmax between them they give what attention_forward gives.
//
// They are the papers' PN, NN and IN (Faster NA, 2403.04690, sections 3.1 and 3.2), computed by naive or gemm,
// whichever is expected to be faster for the problem.
#pragma once

#include "../context.h"
#include "../plan.h"
#include "../tensors.h"

namespace nalab {

/// attn [batch, X..., heads, slots] = scale * q k^T + bias for every slot of a query's window, row-major from the start
/// of the window, then for the extra tokens, which have no bias. Slots whose key a causal axis hides hold -infinity.
/// The scale is problem.weights_scale(): 1 if unset. attn is of the problem's element type or f32, of any strides with
/// adjacent slots, so that heads-first tensors are views of it. Of the inputs, q, k, extra_k and rpb are read.
/// Throws Error if the plan is not of Pass::weights, or a tensor does not fit its problem; as the functions that
/// follow, each for its own pass.
void attention_weights(const Plan& plan, const Inputs& inputs, const TensorView& attn, Context& context);
/// dq, dk, dextra_k and drpb from the gradient of attn; what stands in hidden slots is not read. Of the inputs, q, k
/// and extra_k are read.
void attention_weights_backward(const Plan& plan, const Inputs& inputs, const ConstTensorView& dattn,
                                const Gradients& gradients, Context& context);
/// out [batch, X..., heads, head_dim_v] = the sum over slots and extra tokens of attn * v; hidden slots add nothing,
/// whatever they hold. Of the inputs, v and extra_v are read.
void attention_values(const Plan& plan, const ConstTensorView& attn, const Inputs& inputs, const TensorView& out,
                      Context& context);
/// dattn (0 in hidden slots), dv and dextra_v from the gradient of out. dattn must not overlap attn.
void attention_values_backward(const Plan& plan, const ConstTensorView& attn, const Inputs& inputs,
                               const ConstTensorView& dout, const TensorView& dattn, const Gradients& gradients,
                               Context& context);

/// The same with a plan that is made for the call. Throws Error as make_plan and the functions above do.
void attention_weights(const Problem& problem, const Inputs& inputs, const TensorView& attn, Context& context,
                       const PlanOptions& options = {});
void attention_weights_backward(const Problem& problem, const Inputs& inputs, const ConstTensorView& dattn,
                                const Gradients& gradients, Context& context, const PlanOptions& options = {});
void attention_values(const Problem& problem, const ConstTensorView& attn, const Inputs& inputs, const TensorView& out,
                      Context& context, const PlanOptions& options = {});
void attention_values_backward(const Problem& problem, const ConstTensorView& attn, const Inputs& inputs,
                               const ConstTensorView& dout, const TensorView& dattn, const Gradients& gradients,
                               Context& context, const PlanOptions& options = {});

}  // namespace nalab
