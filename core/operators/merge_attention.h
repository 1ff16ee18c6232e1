// Merging of partial attentions: of the same queries over disjoint sets of keys, as context parallelism makes them.
#pragma once

#include <span>

#include "../context.h"
#include "../simd/isa.h"
#include "../tensors.h"

namespace nalab {

/// Attention of all queries over one set of keys.
struct PartialAttention {
  ConstTensorView out = {};  ///< [batch, X..., heads, head_dim_v]
  ConstTensorView lse = {};  ///< [batch, X..., heads] (dim 1), f32: natural log-sum-exp of the scaled scores
};

/// Writes the attention over the union of the parts' key sets, which must be disjoint:
/// lse = log sum_i exp(lse_i) and out = sum_i exp(lse_i - lse) out_i. Exact but for rounding, whatever the size of the
/// scores; sums are in float32, in the order of the parts, the same for any number of threads.
///
/// A part whose lse is -infinity had no key to attend to: its out is not looked at. With no keys in any part, out is 0
/// and lse -infinity. A part whose lse is NaN makes the query's lse and out NaN; NaN in a channel of out_i stays in
/// that channel.
///
/// The parts have shapes and element types in common; merged.out has their type or f32. merged may be the very views of
/// one of the parts, which is then replaced. Throws Error if there are no parts, a tensor is missing, or shapes or
/// types do not fit.
void merge_attention(std::span<const PartialAttention> parts, const Outputs& merged, Context& context,
                     Isa isa = choose_isa());

}  // namespace nalab
