// The tensors of an attention call: the one list of them, and the bundles of views that kernels take.
//
// A tensor is added here, and in the kernels that use it: checks, allocation, filling, flattening, verification,
// reading and writing all walk the list.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "problem.h"
#include "tensor/tensor.h"

namespace nalab {

/// Inputs of both passes. Element type: the problem's, but for rpb. extra_k and extra_v are absent without extra
/// tokens, rpb without a relative bias. Of the split operators, `weights` reads q, k, extra_k and rpb; `values` v and
/// extra_v.
struct Inputs {
  ConstTensorView q = {};        ///< [batch, X..., heads, head_dim]
  ConstTensorView k = {};        ///< [batch, X..., heads_kv, head_dim]
  ConstTensorView v = {};        ///< [batch, X..., heads_kv, head_dim_v]
  ConstTensorView extra_k = {};  ///< [batch, extra_tokens, heads_kv, head_dim]
  ConstTensorView extra_v = {};  ///< [batch, extra_tokens, heads_kv, head_dim_v]
  ConstTensorView rpb = {};      ///< [heads, 2 w1 - 1, (2 w2 - 1, (2 w3 - 1))], f32; see rpb_shape()
};

/// Results of the forward pass.
struct Outputs {
  TensorView out = {};  ///< [batch, X..., heads, head_dim_v]; the problem's element type or f32
  TensorView lse = {};  ///< [batch, X..., heads] (dim 1), f32: natural log-sum-exp of the scores, scaled and biased
};

/// What the backward pass reads besides the inputs.
struct SavedForBackward {
  ConstTensorView out = {};   ///< as the forward pass left it
  ConstTensorView lse = {};   ///< as the forward pass left it
  ConstTensorView dout = {};  ///< shape of out; the problem's element type
};

/// Results of the backward pass, shaped as what they are gradients of; the problem's element type or f32, drpb f32.
struct Gradients {
  TensorView dq = {};
  TensorView dk = {};
  TensorView dv = {};
  TensorView dextra_k = {};  ///< absent without extra tokens
  TensorView dextra_v = {};
  TensorView drpb = {};  ///< absent without a relative bias
};

/// What a tensor is to a pass.
enum class Role : uint8_t {
  input,            ///< read by a pass and by its backward pass
  output,           ///< written by a forward pass, read by its backward pass
  output_gradient,  ///< read by a backward pass
  gradient,         ///< of an input: written by a backward pass
};

/// What the extents between batch and dim of a tensor are.
enum class Over : uint8_t {
  layout,        ///< tokens of the layout
  extra_tokens,  ///< extra tokens
  offsets,       ///< relative offsets of keys: rpb and drpb
};

/// One tensor of a problem.
struct TensorInfo {
  std::string_view name;  ///< in files and messages
  Role role = Role::input;
  TokenShape shape;
  ElementType type = ElementType::f32;  ///< results may also be f32
  Over over = Over::layout;
  bool has_dim = true;  ///< false: one number for each token and head, and no last extent for callers

  bool is_result() const { return role == Role::output || role == Role::gradient; }
  /// Extents as callers and files see them: without the leading ones that embed the layout in three axes.
  std::vector<int64_t> extents(const Problem& problem) const;
};

/// The list as data: what a tensor is called, its shape, and where it is in the bundles.
struct TensorEntry {
  std::string_view name;
  TokenShape (*shape)(const Problem& problem);
  bool (*present)(const Problem& problem);
  Over over;
  bool of_weights;  ///< read by the pass `weights`; otherwise by `values`
  ConstTensorView Inputs::*input;
  std::string_view gradient_name;
  TensorView Gradients::*gradient;
};

/// Shapes that the tensors of a valid problem have.
TokenShape q_shape(const Problem& problem);
TokenShape k_shape(const Problem& problem);
TokenShape v_shape(const Problem& problem);
TokenShape extra_k_shape(const Problem& problem);
TokenShape extra_v_shape(const Problem& problem);
/// The table of a query head stands where other tensors have a batch entry, an offset where they have a token.
TokenShape rpb_shape(const Problem& problem);
TokenShape out_shape(const Problem& problem);
TokenShape lse_shape(const Problem& problem);
/// Weights of the split operators: dim is the slots of the window, row-major from its start, then the extra tokens.
TokenShape attn_shape(const Problem& problem);

namespace tensor_list {

inline bool always(const Problem&) { return true; }
inline bool with_extra_tokens(const Problem& problem) { return problem.extra_tokens > 0; }
inline bool with_relative_bias(const Problem& problem) { return problem.relative_bias; }

/// Every input, with its gradient.
inline constexpr TensorEntry kInputs[] = {
    {"q", q_shape, always, Over::layout, true, &Inputs::q, "dq", &Gradients::dq},
    {"k", k_shape, always, Over::layout, true, &Inputs::k, "dk", &Gradients::dk},
    {"v", v_shape, always, Over::layout, false, &Inputs::v, "dv", &Gradients::dv},
    {"extra_k", extra_k_shape, with_extra_tokens, Over::extra_tokens, true, &Inputs::extra_k, "dextra_k",
     &Gradients::dextra_k},
    {"extra_v", extra_v_shape, with_extra_tokens, Over::extra_tokens, false, &Inputs::extra_v, "dextra_v",
     &Gradients::dextra_v},
    {"rpb", rpb_shape, with_relative_bias, Over::offsets, true, &Inputs::rpb, "drpb", &Gradients::drpb},
};

/// An input or its gradient.
inline TensorInfo info(const TensorEntry& entry, Role role, const Problem& p) {
  const bool table = entry.over == Over::offsets;
  return {role == Role::gradient ? entry.gradient_name : entry.name,
          role,
          entry.shape(p),
          table ? ElementType::f32 : p.type,
          entry.over,
          !table};
}
inline TensorInfo out(const Problem& p) { return {"out", Role::output, out_shape(p), p.type}; }
inline TensorInfo lse(const Problem& p) {
  return {"lse", Role::output, lse_shape(p), ElementType::f32, Over::layout, false};
}
inline TensorInfo dout(const Problem& p) { return {"dout", Role::output_gradient, out_shape(p), p.type}; }
inline TensorInfo attn(const Problem& p, Role role) { return {"attn", role, attn_shape(p), p.type}; }
inline TensorInfo dattn(const Problem& p, Role role) { return {"dattn", role, attn_shape(p), p.type}; }

}  // namespace tensor_list

/// Calls visitor(info, view) for each tensor of a bundle (Inputs, Outputs, SavedForBackward or Gradients, const or not)
/// that a valid problem has, in the order of the list.
template <class Bundle, class Visitor>
void visit_tensors(const Problem& problem, Bundle& bundle, const Visitor& visitor) {
  using B = std::remove_const_t<Bundle>;
  if constexpr (std::is_same_v<B, Outputs>) {
    visitor(tensor_list::out(problem), bundle.out);
    visitor(tensor_list::lse(problem), bundle.lse);
  } else if constexpr (std::is_same_v<B, SavedForBackward>) {
    visitor(tensor_list::out(problem), bundle.out);
    visitor(tensor_list::lse(problem), bundle.lse);
    visitor(tensor_list::dout(problem), bundle.dout);
  } else {
    for (const TensorEntry& entry : tensor_list::kInputs) {
      if (!entry.present(problem)) continue;
      if constexpr (std::is_same_v<B, Gradients>) {
        visitor(tensor_list::info(entry, Role::gradient, problem), bundle.*entry.gradient);
      } else {
        visitor(tensor_list::info(entry, Role::input, problem), bundle.*entry.input);
      }
    }
  }
}

/// The tensors of a pass of a valid problem: inputs, the output's gradient, outputs, gradients. The backward pass of
/// attention has those of its forward pass among them.
std::vector<TensorInfo> tensors_of(const Problem& problem, Pass pass);
/// The tensor of a name, as a problem would have it: one of extra tokens as well if there are none, and the problem may
/// still be invalid. nullopt if no tensor has this name.
std::optional<TensorInfo> find_tensor(const Problem& problem, std::string_view name);

/// Throws Error that names an input which is given, and which the pass would read if the problem had it: it would be
/// ignored.
void refuse_unused(const Problem& problem, const Inputs& inputs, Pass pass);
/// Throws Error that names the tensor if one is missing or has another shape or element type than the problem says.
void check(const Problem& problem, const Inputs& inputs, const Outputs& outputs);
void check(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients);

/// Whether the tokens of a view lie at one distance from each other, so that they can be seen as a single axis.
bool tokens_in_a_row(const ConstTensorView& view);
/// Whether they do in every tensor of a bundle that is over the layout.
template <class Bundle>
bool tokens_in_a_row(const Problem& problem, const Bundle& bundle) {
  bool all = true;
  visit_tensors(problem, bundle, [&](const TensorInfo& info, const ConstTensorView& view) {
    if (info.over == Over::layout) all = all && tokens_in_a_row(view);
  });
  return all;
}

/// The same tensors with the tokens of the layout as a single axis. Requires tokens_in_a_row().
template <class Bundle>
Bundle flattened(const Problem& problem, Bundle bundle) {
  visit_tensors(problem, bundle, [](const TensorInfo& info, auto& view) {
    if (info.over == Over::layout) view.shape.layout = {1, 1, view.shape.tokens()};
  });
  return bundle;
}

}  // namespace nalab
