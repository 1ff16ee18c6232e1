// The fused machinery as dense calls it.
#pragma once

#include "core/kernels/registry.h"

namespace nalab::fused {

/// Forward pass of a problem that a plan of fused, or of dense, computes: the plan's own, or the same on flattened
/// tokens.
void forward(const Plan& plan, const Problem& problem, const Inputs& inputs, const Outputs& outputs,
             const Execution& execution);

/// What forward does before it computes: packs queries, keys and values, and lists the keys of the query tiles.
void pack(const Plan& plan, const Problem& problem, const Inputs& inputs, const Execution& execution);

/// Backward pass, as forward.
void backward(const Plan& plan, const Problem& problem, const Inputs& inputs, const SavedForBackward& saved,
              const Gradients& gradients, const Execution& execution);

/// The reason why a variant of this machinery does not compute a pass of a problem; nullopt if it does.
std::optional<std::string> unsupported(const std::string& variant, const Problem& problem, Pass pass);

/// Whether the machinery is written for an arithmetic in a pass.
bool takes(const Arithmetic& arithmetic, Pass pass);

/// Whether an arithmetic that is preferred in general pays for a problem.
bool pays(const Arithmetic& arithmetic, const Problem& problem, Pass pass);

/// What a choice costs on its own problem. Workspace: for each worker the working set of a super tile; backward in f16
/// and bf16 also the gradients of k and v in float; with a bias its vectors (tile/bias.h), which all share, and
/// backward sums of drpb for each worker and for each head of each batch entry. FLOPs: of all visited (query lane, key)
/// pairs, which on a matrix unit come in whole groups of keys.
PlanCost cost(const PlanChoice& choice);
PlanCost backward_workspace(const PlanChoice& choice);

}  // namespace nalab::fused
