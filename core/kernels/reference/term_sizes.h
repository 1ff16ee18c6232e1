// How large the terms are that results are sums of: what rounding errors are relative to.
#pragma once

#include "core/kernels/reference/reference.h"
#include "core/tensor_set.h"

namespace nalab::reference {

struct TermSizes {
  /// For each result, the sum of the absolute values of its terms.
  NamedResults of;
  /// The greatest sum of the absolute values of a score's terms: the weights' relative errors grow with it.
  double greatest_score = 0;
};

/// From the tensors that a pass reads. The oracle itself adds the terms up, from absolute values: of out and dv they
/// are p |v| and p |dout|, and of dq, dk and drpb those with |ds| at most p (D + sum p D), where D = |dout| |v|.
TermSizes term_sizes(const Problem& problem, Pass pass, const TensorSet& given);

}  // namespace nalab::reference
