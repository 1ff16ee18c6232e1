// The oracle: attention by definition, in double, one scalar operation after the other.
//
// Works from the text of the contract and a membership test for each (query, key) pair. It shares no code with
// core/geometry, so that a mistake there cannot hide here.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "core/tensors.h"

namespace nalab::reference {

/// One row of out: a batch entry, a token's coordinates in the embedded layout (leading axes of one), a head.
struct Query {
  int64_t batch = 0;
  std::array<int64_t, 3> token{0, 0, 0};
  int64_t head = 0;
};

/// One row of dk and one of dv: a batch entry, a token, a kv head.
struct Key {
  int64_t batch = 0;
  std::array<int64_t, 3> token{0, 0, 0};  ///< as in Query; for an extra token {0, 0, its index}
  int64_t head_kv = 0;
  bool extra = false;
};

/// One entry of rpb and drpb: a query head, and an index along each axis, w - 1 for a query's own position.
struct Offset {
  int64_t head = 0;
  std::array<int64_t, 3> index{0, 0, 0};
};

/// Results of the forward pass in double, contiguous.
struct Forward {
  std::vector<double> out;     ///< [batch, X..., heads, head_dim_v], or [queries, head_dim_v] for chosen queries
  std::vector<double> lse;     ///< [batch, X..., heads], or [queries]
  double max_abs_score = 0.0;  ///< greatest finite |scaled score|: tolerances grow with it
};

/// Gradients of sum(out * dout) in double, contiguous, shaped as the inputs.
struct Backward {
  std::vector<double> dq, dk, dv, dextra_k, dextra_v, drpb;
};

/// Gradients of the operator `weights`.
struct WeightsBackward {
  std::vector<double> dq, dk, dextra_k, drpb;
};

/// Gradients of the operator `values`.
struct ValuesBackward {
  std::vector<double> dattn;  ///< [batch, X..., heads, slots]
  std::vector<double> dv, dextra_v;
};

/// Gradients of chosen queries.
struct QueryGradients {
  std::vector<double> dq;  ///< [queries, head_dim]
};

/// Gradients of chosen keys.
struct KeyGradients {
  std::vector<double> dk;  ///< [keys, head_dim]
  std::vector<double> dv;  ///< [keys, head_dim_v]
};

/// Whether a query coordinate attends to a key coordinate along one axis: the definition, word by word.
bool attends(const Axis& axis, int64_t query, int64_t key);

/// All queries of a valid problem.
Forward forward(const Problem& problem, const Inputs& inputs);
/// Chosen queries only: a sample, if all would take too long.
Forward forward(const Problem& problem, const Inputs& inputs, std::span<const Query> queries);
/// dout is shaped as out, of the problem's element type.
Backward backward(const Problem& problem, const Inputs& inputs, const ConstTensorView& dout);
/// The gradients of chosen queries.
QueryGradients backward_queries(const Problem& problem, const Inputs& inputs, const ConstTensorView& dout,
                                std::span<const Query> queries);
/// The gradients of chosen keys, extra tokens among them. They need the weights of all queries that attend to them,
/// which are made from the saved lse, and the sums over what these attend to, which are made from the saved out: out
/// and lse have to be verified on their own.
KeyGradients backward_keys(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved,
                           std::span<const Key> keys);
/// Chosen entries of drpb, [offsets]; from the saved lse and out, as backward_keys.
std::vector<double> backward_bias(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved,
                                  std::span<const Offset> offsets);

// The split operators (core/operators/split_attention.h).

/// attn [batch, X..., heads, slots], or [queries, slots] for chosen queries.
std::vector<double> weights(const Problem& problem, const Inputs& inputs);
std::vector<double> weights(const Problem& problem, const Inputs& inputs, std::span<const Query> queries);
WeightsBackward weights_backward(const Problem& problem, const Inputs& inputs, const ConstTensorView& dattn);
/// out [batch, X..., heads, head_dim_v], or [queries, head_dim_v] for chosen queries.
std::vector<double> values(const Problem& problem, const ConstTensorView& attn, const Inputs& inputs);
std::vector<double> values(const Problem& problem, const ConstTensorView& attn, const Inputs& inputs,
                           std::span<const Query> queries);
ValuesBackward values_backward(const Problem& problem, const ConstTensorView& attn, const Inputs& inputs,
                               const ConstTensorView& dout);

/// Results by the names that the list of tensors (core/tensors.h) gives them; those of tensors that the problem does
/// not have are empty.
using NamedResults = std::map<std::string_view, std::vector<double>>;
NamedResults by_name(Forward results);
NamedResults by_name(Backward results);
NamedResults by_name(WeightsBackward results);
NamedResults by_name(ValuesBackward results);
NamedResults by_name(QueryGradients results);
/// `extra`: whether the keys are extra tokens.
NamedResults by_name(KeyGradients results, bool extra);

}  // namespace nalab::reference
