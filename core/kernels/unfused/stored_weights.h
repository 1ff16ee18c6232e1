// The memory of the unfused variants: what is stored of all queries between their operators.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/kernels/unfused/extra_tokens.h"
#include "core/kernels/unfused/weight_rows.h"
#include "core/problem.h"
#include "core/tensor/workspace.h"
#include "core/tensors.h"

namespace nalab::unfused {

/// Weights of all queries and, in the backward pass, their gradients.
struct StoredWeights {
  WeightRows weights;
  WeightRows gradients;  ///< backward: of the weights, then of the scores
  ExtraSlices extra;     ///< how the gradients of the extra tokens are summed
  float* partial;        ///< backward: their partial sums

  /// row_floats: from one row of weights to the next, at least keys_per_query.
  StoredWeights(const Problem& p, Pass pass, int64_t row_floats, WorkspaceCutter& cutter) : extra(p) {
    const bool backward = pass == Pass::backward;
    const auto rows = [&](bool there) {
      return WeightRows{cutter.take<float>(there ? p.batch * p.tokens() * p.heads * row_floats : 0), q_shape(p).layout,
                        p.heads, row_floats};
    };
    weights = rows(true);
    gradients = rows(backward);
    partial = cutter.take<float>(backward ? extra.floats(std::max(p.head_dim, p.head_dim_v)) : 0);
  }
};

}  // namespace nalab::unfused
