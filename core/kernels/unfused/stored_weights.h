// The memory of the unfused variants: what is stored of all queries between their operators.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/kernels/unfused/bias.h"
#include "core/kernels/unfused/extra_tokens.h"
#include "core/kernels/unfused/slots.h"
#include "core/kernels/unfused/weight_rows.h"
#include "core/problem.h"
#include "core/tensor/workspace.h"
#include "core/tensors.h"

namespace nalab::unfused {

/// Whether a split operator works on attn itself: it is float whatever the caller chooses, no slot is hidden, and the
/// gradients of the scores need not be scaled.
inline bool works_in_place(const Problem& p, Pass pass) {
  return is_split(pass) && p.type == ElementType::f32 && all_slots_are_keys(p) &&
         (pass != Pass::weights_backward || p.weights_scale() == 1.0);
}

/// Weights of all queries and, in a backward pass, their gradients.
struct StoredWeights {
  bool in_place;  ///< split operators: the caller's attn and dattn take the place of what follows
  WeightRows weights;
  WeightRows gradients;  ///< of the weights, then of the scores
  ExtraSlices extra;     ///< how the gradients of the extra tokens are summed
  float* partial;        ///< their partial sums
  BiasTables tables;
  BiasSlices bias_slices;

  /// row_floats: from one row of weights to the next, at least keys_per_query.
  StoredWeights(const Problem& p, Pass pass, int64_t row_floats, WorkspaceCutter& cutter)
      : in_place(works_in_place(p, pass)),
        weights(cut_rows(p, row_floats, !in_place && pass != Pass::weights_backward, cutter)),
        gradients(cut_rows(p, row_floats, !in_place && is_backward(pass), cutter)),
        extra(p),
        partial(cutter.take<float>(is_backward(pass) ? extra.floats(std::max(p.head_dim, p.head_dim_v)) : 0)),
        tables(p, p.relative_bias && (pass == Pass::weights || !is_split(pass)), cutter),
        bias_slices(p, p.relative_bias && (pass == Pass::backward || pass == Pass::weights_backward), cutter) {}

 private:
  static WeightRows cut_rows(const Problem& p, int64_t row_floats, bool there, WorkspaceCutter& cutter) {
    TokenShape shape = q_shape(p);
    shape.dim = row_floats;
    return {cutter.take<float>(there ? shape.elements() : 0), shape, TokenStrides::contiguous(shape)};
  }
};

}  // namespace nalab::unfused
