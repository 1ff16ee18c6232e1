#include "core/kernels/reference/gradient_sums.h"

namespace nalab::reference {

namespace {

int64_t offset(const TokenShape& shape, int64_t batch, const Token& token, int64_t head) {
  const TokenStrides s = TokenStrides::contiguous(shape);
  return batch * s.batch + token[0] * s.layout[0] + token[1] * s.layout[1] + token[2] * s.layout[2] + head * s.heads;
}

std::vector<double> zeros(const TokenShape& shape) {
  return std::vector<double>(static_cast<std::size_t>(shape.elements()), 0.0);
}

/// A gradient of keys or values, and its shape, for extra tokens or not.
struct Target {
  std::vector<double>& values;
  TokenShape shape;

  double* row(const Key& key) const { return values.data() + offset(shape, key.batch, key.token, key.head_kv); }
};

}  // namespace

WeightsBackward zero_weights_backward(const Problem& problem) {
  return {zeros(q_shape(problem)), zeros(k_shape(problem)), zeros(extra_k_shape(problem)),
          problem.relative_bias ? zeros(rpb_shape(problem)) : std::vector<double>()};
}

ValuesBackward zero_values_backward(const Problem& problem) {
  return {{}, zeros(v_shape(problem)), zeros(extra_v_shape(problem))};
}

void add_score_gradients(const Problem& problem, double scale, const Inputs& in, const Query& query,
                         const std::vector<Key>& keys, const std::vector<double>& ds, WeightsBackward& result) {
  const auto q = row(in.q, query);
  double* dq = result.dq.data() + offset(q_shape(problem), query.batch, query.token, query.head);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Key& key = keys[i];
    const Target dk = key.extra ? Target{result.dextra_k, extra_k_shape(problem)} : Target{result.dk, k_shape(problem)};
    add_scaled(dq, scale * ds[i], row(in.k, in.extra_k, key));
    add_scaled(dk.row(key), scale * ds[i], q);
    if (!problem.relative_bias || key.extra) continue;
    result.drpb[static_cast<std::size_t>(offset(rpb_shape(problem), query.head, bias_index(problem, query, key), 0))] +=
        ds[i];
  }
}

void add_value_gradients(const Problem& problem, const std::vector<double>& dout, const std::vector<Key>& keys,
                         const std::vector<double>& p, ValuesBackward& result) {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Key& key = keys[i];
    const Target dv = key.extra ? Target{result.dextra_v, extra_v_shape(problem)} : Target{result.dv, v_shape(problem)};
    add_scaled(dv.row(key), p[i], dout);
  }
}

}  // namespace nalab::reference
