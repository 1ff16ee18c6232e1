// The oracle: attention by definition, in double, one scalar operation after the other.
//
// Works from the text of the contract and a membership test for each (query, key) pair. It shares no code with
// core/geometry, so that a mistake there cannot hide here.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/kernels/attention.h"

namespace nalab::reference {

/// One row of out: a batch entry, a token's coordinates in the embedded layout (leading axes of one), a head.
struct Query {
  int64_t batch = 0;
  std::array<int64_t, 3> token{0, 0, 0};
  int64_t head = 0;
};

/// Results of the forward pass in double, contiguous.
struct Forward {
  std::vector<double> out;     ///< [batch, X..., heads, head_dim_v], or [queries, head_dim_v] for chosen queries
  std::vector<double> lse;     ///< [batch, X..., heads], or [queries]
  double max_abs_score = 0.0;  ///< greatest finite |scaled score|: tolerances grow with it
};

/// Gradients of sum(out * dout) in double, contiguous, shaped as the inputs.
struct Backward {
  std::vector<double> dq, dk, dv, dextra_k, dextra_v;
};

/// Whether a query coordinate attends to a key coordinate along one axis: the definition, word by word.
bool attends(const Axis& axis, int64_t query, int64_t key);

/// All queries of a valid problem.
Forward forward(const Problem& problem, const Inputs& inputs);
/// Chosen queries only: a sample, where all would take too long.
Forward forward(const Problem& problem, const Inputs& inputs, std::span<const Query> queries);
/// dout is shaped as out, of the problem's element type.
Backward backward(const Problem& problem, const Inputs& inputs, const ConstTensorView& dout);

}  // namespace nalab::reference
