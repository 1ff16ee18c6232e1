// The tensors of an attention call, and the call itself: what every variant takes.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "core/parallel.h"
#include "core/problem.h"
#include "core/simd/isa.h"
#include "core/tensor/tensor.h"

namespace nalab {

/// Inputs of both passes. Element type: the problem's. extra_k and extra_v are absent without extra tokens.
struct Inputs {
  ConstTensorView q;        ///< [batch, X..., heads, head_dim]
  ConstTensorView k;        ///< [batch, X..., heads_kv, head_dim]
  ConstTensorView v;        ///< [batch, X..., heads_kv, head_dim_v]
  ConstTensorView extra_k;  ///< [batch, extra_tokens, heads_kv, head_dim]
  ConstTensorView extra_v;  ///< [batch, extra_tokens, heads_kv, head_dim_v]
};

/// Results of the forward pass.
struct Outputs {
  TensorView out;  ///< [batch, X..., heads, head_dim_v]; the problem's element type or f32
  TensorView lse;  ///< [batch, X..., heads] (dim 1), f32: natural log-sum-exp of the scaled scores
};

/// What the backward pass reads beside the inputs.
struct SavedForBackward {
  ConstTensorView out;   ///< as the forward pass left it
  ConstTensorView lse;   ///< as the forward pass left it
  ConstTensorView dout;  ///< shape of out; the problem's element type
};

/// Results of the backward pass, shaped as what they are gradients of; the problem's element type or f32.
struct Gradients {
  TensorView dq;
  TensorView dk;
  TensorView dv;
  TensorView dextra_k;  ///< absent without extra tokens
  TensorView dextra_v;
};

/// How to run, apart from what is computed: results may depend on isa, never on the number of workers.
struct Execution {
  Isa isa;
  Workers& workers;
  std::span<std::byte> workspace;  ///< 64-byte aligned, at least as large as the variant states
};

/// Shapes that the tensors of a valid problem have.
TokenShape q_shape(const Problem& problem);
TokenShape k_shape(const Problem& problem);
TokenShape v_shape(const Problem& problem);
TokenShape extra_k_shape(const Problem& problem);
TokenShape extra_v_shape(const Problem& problem);
TokenShape out_shape(const Problem& problem);
TokenShape lse_shape(const Problem& problem);

/// Throws Error that names the tensor where one is missing or has another shape or element type than the problem says.
void check(const Problem& problem, const Inputs& inputs, const Outputs& outputs);
void check(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients);

/// Computes attention with a variant of the registry: validates, allocates the workspace, runs.
/// Throws Error where the problem is invalid, a tensor does not fit it, or the variant does not support it.
void attention_forward(std::string_view variant, const Problem& problem, const Inputs& inputs, const Outputs& outputs,
                       Workers& workers, Isa isa = choose_isa());
/// The gradients of sum(out * dout). Throws Error as attention_forward.
void attention_backward(std::string_view variant, const Problem& problem, const Inputs& inputs,
                        const SavedForBackward& saved, const Gradients& gradients, Workers& workers,
                        Isa isa = choose_isa());

}  // namespace nalab
