// Gradients of the oracle: sums over queries, of whole tensors.
#pragma once

#include "core/kernels/reference/pairs.h"

namespace nalab::reference {

/// All zeros, of the tensors that the problem has.
WeightsBackward zero_weights_backward(const Problem& problem);
ValuesBackward zero_values_backward(const Problem& problem);

/// Adds what the gradients of one query's scores pass on to q, k and the table.
void add_score_gradients(const Problem& problem, double scale, const Inputs& in, const Query& query,
                         const std::vector<Key>& keys, const std::vector<double>& ds, WeightsBackward& result);

/// Adds what one query with weights `p` passes on to v.
void add_value_gradients(const Problem& problem, const std::vector<double>& dout, const std::vector<Key>& keys,
                         const std::vector<double>& p, ValuesBackward& result);

}  // namespace nalab::reference
