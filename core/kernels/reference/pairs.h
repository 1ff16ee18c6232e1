// What the oracle's results are made of: who attends to whom, rows of tensors in double, scores.
#pragma once

#include <array>
#include <vector>

#include "core/kernels/reference/reference.h"

namespace nalab::reference {

using Token = std::array<int64_t, 3>;

/// Calls visit(token) for the product of coordinates along three axes, in row-major order.
template <class Visit>
void for_each_token(const std::array<std::vector<int64_t>, 3>& x, const Visit& visit) {
  for (int64_t x1 : x[0]) {
    for (int64_t x2 : x[1]) {
      for (int64_t x3 : x[2]) visit(Token{x1, x2, x3});
    }
  }
}

/// All coordinates along each axis.
std::array<std::vector<int64_t>, 3> all_coordinates(const Problem& problem);

/// All queries of a problem, in the order of out.
std::vector<Query> all_queries(const Problem& problem);

int64_t head_kv_of(const Problem& problem, int64_t head);

/// The keys that a query attends to, in the order of the layout, then the extra tokens.
std::vector<Key> attended_keys(const Problem& problem, const Query& query);

/// The queries that attend to a key, of all heads that read its kv head.
std::vector<Query> attending_queries(const Problem& problem, const Key& key);

/// The elements of a query's row of q, out, dout, lse or attn.
std::vector<double> row(const ConstTensorView& view, const Query& query);

/// The row of a key in `layout`, or that of an extra token in `extra`.
std::vector<double> row(const ConstTensorView& layout, const ConstTensorView& extra, const Key& key);

double dot(const std::vector<double>& a, const std::vector<double>& b);

void add_scaled(double* target, double factor, const std::vector<double>& x);

/// Index along each axis of a pair's entry in the table of its head; offsets are those of positions in the dilation
/// group. Requires a key of the layout.
std::array<int64_t, 3> bias_index(const Problem& problem, const Query& query, const Key& key);

/// scale * q k^T + bias of one query over keys.
std::vector<double> scores(const Problem& problem, double scale, const Inputs& in, const Query& query,
                           const std::vector<Key>& keys);

}  // namespace nalab::reference
