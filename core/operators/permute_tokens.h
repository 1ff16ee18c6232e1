// Tensors whose tokens are permuted to tiles, for callers who keep activations permuted between layers.
#pragma once

#include "../context.h"
#include "../geometry/permutation.h"
#include "../tensor/tensor.h"

namespace nalab {

/// Copies tokens [batch, X..., heads, dim] to permuted [batch, tokens, heads, dim], the token at place n of the
/// permutation to row n. A permuted tensor is a layout {1, 1, tokens}. Element types are equal, and bits are kept. The
/// tensors must not overlap.
///
/// Throws Error if a tensor is missing, shapes or element types do not fit each other or the permutation, or the
/// permutation has an extent, dilation or tile below 1.
void permute_tokens(const geometry::TokenPermutation& permutation, const ConstTensorView& tokens,
                    const TensorView& permuted, Context& context);

/// The inverse of permute_tokens: copies permuted [batch, tokens, heads, dim] to tokens [batch, X..., heads, dim].
/// Throws Error as permute_tokens does.
void unpermute_tokens(const geometry::TokenPermutation& permutation, const ConstTensorView& permuted,
                      const TensorView& tokens, Context& context);

}  // namespace nalab
