#include <limits>

#include "core/kernels/reference/gradient_sums.h"

namespace nalab::reference {

namespace {

/// First position of the window of a query's stride group.
int64_t window_start(const Axis& axis, int64_t query) {
  for (int64_t key = query % axis.dilation; key < axis.extent; key += axis.dilation) {
    if (attends(axis, query, key)) return key / axis.dilation;
  }
  return 0;
}

/// Where in a row of attn each of a query's keys stands.
std::vector<std::size_t> slots(const Problem& problem, const Query& query, const std::vector<Key>& keys) {
  const auto axes = problem.axes3();
  const int64_t window = problem.keys_per_query() - problem.extra_tokens;
  std::array<int64_t, 3> start;
  for (std::size_t a = 0; a < 3; ++a) start[a] = window_start(axes[a], query.token[a]);
  std::vector<std::size_t> found;
  for (const Key& key : keys) {
    int64_t slot = key.extra ? window + key.token[2] : 0;
    for (std::size_t a = 0; a < 3 && !key.extra; ++a) {
      slot = slot * axes[a].window + key.token[a] / axes[a].dilation - start[a];
    }
    found.push_back(static_cast<std::size_t>(slot));
  }
  return found;
}

/// The elements of a row at some slots.
std::vector<double> at_slots(const std::vector<double>& row, const std::vector<std::size_t>& slots) {
  std::vector<double> values;
  for (const std::size_t slot : slots) values.push_back(row[slot]);
  return values;
}

}  // namespace

std::vector<double> weights(const Problem& problem, const Inputs& in, std::span<const Query> queries) {
  std::vector<double> attn;
  for (const Query& query : queries) {
    const std::vector<Key> keys = attended_keys(problem, query);
    const std::vector<std::size_t> at = slots(problem, query, keys);
    const std::vector<double> found = scores(problem, problem.weights_scale(), in, query, keys);
    std::vector<double> row(static_cast<std::size_t>(problem.keys_per_query()),
                            -std::numeric_limits<double>::infinity());
    for (std::size_t i = 0; i < keys.size(); ++i) row[at[i]] = found[i];
    attn.insert(attn.end(), row.begin(), row.end());
  }
  return attn;
}

std::vector<double> weights(const Problem& problem, const Inputs& in) {
  return weights(problem, in, all_queries(problem));
}

WeightsBackward weights_backward(const Problem& problem, const Inputs& in, const ConstTensorView& dattn) {
  WeightsBackward result = zero_weights_backward(problem);
  for (const Query& query : all_queries(problem)) {
    const std::vector<Key> keys = attended_keys(problem, query);
    const std::vector<double> ds = at_slots(row(dattn, query), slots(problem, query, keys));
    add_score_gradients(problem, problem.weights_scale(), in, query, keys, ds, result);
  }
  return result;
}

std::vector<double> values(const Problem& problem, const ConstTensorView& attn, const Inputs& in,
                           std::span<const Query> queries) {
  std::vector<double> result;
  for (const Query& query : queries) {
    const std::vector<Key> keys = attended_keys(problem, query);
    const std::vector<double> p = at_slots(row(attn, query), slots(problem, query, keys));
    std::vector<double> out(static_cast<std::size_t>(problem.head_dim_v), 0.0);
    for (std::size_t i = 0; i < keys.size(); ++i) add_scaled(out.data(), p[i], row(in.v, in.extra_v, keys[i]));
    result.insert(result.end(), out.begin(), out.end());
  }
  return result;
}

std::vector<double> values(const Problem& problem, const ConstTensorView& attn, const Inputs& in) {
  return values(problem, attn, in, all_queries(problem));
}

ValuesBackward values_backward(const Problem& problem, const ConstTensorView& attn, const Inputs& in,
                               const ConstTensorView& dout) {
  ValuesBackward result = zero_values_backward(problem);
  for (const Query& query : all_queries(problem)) {
    const std::vector<Key> keys = attended_keys(problem, query);
    const std::vector<std::size_t> at = slots(problem, query, keys);
    const std::vector<double> dout_row = row(dout, query);
    std::vector<double> dattn(static_cast<std::size_t>(problem.keys_per_query()), 0.0);
    for (std::size_t i = 0; i < keys.size(); ++i) dattn[at[i]] = dot(dout_row, row(in.v, in.extra_v, keys[i]));
    result.dattn.insert(result.dattn.end(), dattn.begin(), dattn.end());
    add_value_gradients(problem, dout_row, keys, at_slots(row(attn, query), at), result);
  }
  return result;
}

}  // namespace nalab::reference
