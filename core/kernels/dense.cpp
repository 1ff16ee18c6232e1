// dense: self attention over all tokens, the baseline of the speedups.
//
// The fused machinery on tokens in a row: every tile is full and no mask is ever looked at. A layout whose tokens do
// not lie at one distance from each other keeps its axes.
#include "core/kernels/fused/fused.h"
#include "core/kernels/variants.h"

namespace nalab::dense {

namespace {

/// Whether the tokens of a view lie at one distance from each other.
template <class Void>
bool in_a_row(const BasicTensorView<Void>& view) {
  const auto& extent = view.shape.layout;
  const auto& stride = view.strides.layout;
  return (extent[0] == 1 || stride[0] == extent[1] * stride[1]) &&
         (extent[1] == 1 || stride[1] == extent[2] * stride[2] || extent[0] * extent[1] == 1);
}

/// The same tokens as one axis.
template <class Void>
BasicTensorView<Void> flat(BasicTensorView<Void> view) {
  view.shape.layout = {1, 1, view.shape.tokens()};
  return view;
}

bool in_a_row(const Inputs& in) { return in_a_row(in.q) && in_a_row(in.k) && in_a_row(in.v); }

Inputs flat(const Inputs& in) { return {flat(in.q), flat(in.k), flat(in.v), in.extra_k, in.extra_v}; }

Problem flat(const Problem& problem) {
  Problem row = problem;
  const int64_t tokens = problem.tokens();
  row.axes = {{.extent = tokens, .window = tokens, .causal = problem.axes.back().causal}};
  return row;
}

void forward(const Problem& problem, const Inputs& in, const Outputs& out, const Execution& execution) {
  if (in_a_row(in) && in_a_row(out.out) && in_a_row(out.lse)) {
    fused::forward(flat(problem), flat(in), {flat(out.out), flat(out.lse)}, execution);
  } else {
    fused::forward(problem, in, out, execution);
  }
}

/// The packing of forward() into outputs that lie in a row where the inputs do.
void pack(const Problem& problem, const Inputs& in, const Execution& execution) {
  if (in_a_row(in)) {
    fused::pack(flat(problem), flat(in), execution);
  } else {
    fused::pack(problem, in, execution);
  }
}

void backward(const Problem& problem, const Inputs& in, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution) {
  if (in_a_row(in) && in_a_row(saved.out) && in_a_row(saved.lse) && in_a_row(saved.dout) && in_a_row(gradients.dq) &&
      in_a_row(gradients.dk) && in_a_row(gradients.dv)) {
    fused::backward(
        flat(problem), flat(in), {flat(saved.out), flat(saved.lse), flat(saved.dout)},
        {flat(gradients.dq), flat(gradients.dk), flat(gradients.dv), gradients.dextra_k, gradients.dextra_v},
        execution);
  } else {
    fused::backward(problem, in, saved, gradients, execution);
  }
}

std::optional<std::string> supports(const Problem& problem, Pass) {
  const bool causal_row = problem.rank() == 1 && problem.axes[0].window == problem.axes[0].extent;
  if (!problem.is_self_attention() && !causal_row) {
    return "dense computes self attention only, and a window leaves tokens out";
  }
  return std::nullopt;
}

}  // namespace

Variant variant() {
  return {
      .name = "dense",
      .paper_term = "self attention (FMHA)",
      .summary = "Every query attends to every token: the baseline of the speedups.",
      .self_attention_only = true,
      .supports = supports,
      .workspace_bytes = [](const Problem& problem, Pass pass, int threads) -> int64_t {
        return std::max(fused::workspace_bytes(problem, pass, threads),
                        fused::workspace_bytes(flat(problem), pass, threads));
      },
      .executed_flops = [](const Problem& problem, Pass pass) { return fused::executed_flops(flat(problem), pass); },
      .forward = forward,
      .backward = backward,
      .pack = pack,
  };
}

}  // namespace nalab::dense
