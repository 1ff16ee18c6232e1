#include "core/kernels/reference.h"

#include <cmath>
#include <limits>

#include "core/kernels/variants.h"

namespace nalab::reference {

namespace {

/// Coordinates along one axis for which test(coordinate) holds, by testing every one.
template <class Test>
std::vector<int64_t> coordinates(const Axis& axis, const Test& test) {
  std::vector<int64_t> found;
  for (int64_t i = 0; i < axis.extent; ++i) {
    if (test(i)) found.push_back(i);
  }
  return found;
}

/// Calls visit(token) for the product of coordinates along three axes, in row-major order.
template <class Visit>
void for_each_token(const std::array<std::vector<int64_t>, 3>& x, const Visit& visit) {
  for (int64_t x1 : x[0]) {
    for (int64_t x2 : x[1]) {
      for (int64_t x3 : x[2]) visit(std::array<int64_t, 3>{x1, x2, x3});
    }
  }
}

int64_t head_kv_of(const Problem& problem, int64_t head) { return head / (problem.heads / problem.heads_kv); }

std::vector<Key> attended_keys(const Problem& problem, const Query& query) {
  const auto axes = problem.axes3();
  const int64_t head_kv = head_kv_of(problem, query.head);
  std::array<std::vector<int64_t>, 3> x;
  for (std::size_t a = 0; a < 3; ++a) {
    x[a] = coordinates(axes[a], [&](int64_t key) { return attends(axes[a], query.token[a], key); });
  }
  std::vector<Key> keys;
  for_each_token(x, [&](const auto& token) { keys.push_back({query.batch, token, head_kv}); });
  for (int64_t e = 0; e < problem.extra_tokens; ++e) keys.push_back({query.batch, {0, 0, e}, head_kv, true});
  return keys;
}

/// The queries that attend to a key, of all heads that read its kv head.
std::vector<Query> attending_queries(const Problem& problem, const Key& key) {
  const auto axes = problem.axes3();
  std::array<std::vector<int64_t>, 3> x;
  for (std::size_t a = 0; a < 3; ++a) {
    x[a] = coordinates(axes[a], [&](int64_t query) { return key.extra || attends(axes[a], query, key.token[a]); });
  }
  std::vector<Query> queries;
  for_each_token(x, [&](const auto& token) {
    for (int64_t head = 0; head < problem.heads; ++head) {
      if (head_kv_of(problem, head) == key.head_kv) queries.push_back({key.batch, token, head});
    }
  });
  return queries;
}

/// The dim elements of one head of one token, as double.
std::vector<double> row(const ConstTensorView& view, int64_t batch, const std::array<int64_t, 3>& token, int64_t head) {
  return with_element_type(view.type, [&](auto element) {
    const auto* data = view.as<decltype(element)>().row(batch, token[0], token[1], token[2], head);
    std::vector<double> values(static_cast<std::size_t>(view.shape.dim));
    for (std::size_t c = 0; c < values.size(); ++c) values[c] = to_float(data[c]);
    return values;
  });
}

std::vector<double> row(const ConstTensorView& view, const Query& query) {
  return row(view, query.batch, query.token, query.head);
}

/// The row of a key in `layout`, or that of an extra token in `extra`.
std::vector<double> row(const ConstTensorView& layout, const ConstTensorView& extra, const Key& key) {
  return row(key.extra ? extra : layout, key.batch, key.token, key.head_kv);
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t c = 0; c < a.size(); ++c) sum += a[c] * b[c];
  return sum;
}

void add_scaled(double* target, double factor, const std::vector<double>& x) {
  for (std::size_t c = 0; c < x.size(); ++c) target[c] += factor * x[c];
}

/// Index along each axis of a pair's entry in the table of its head; offsets are those of positions in the dilation
/// group. Requires a key of the layout.
std::array<int64_t, 3> bias_index(const Problem& problem, const Query& query, const Key& key) {
  const auto axes = problem.axes3();
  std::array<int64_t, 3> index;
  for (std::size_t a = 0; a < 3; ++a) {
    const int64_t offset = key.token[a] / axes[a].dilation - query.token[a] / axes[a].dilation;
    index[a] = offset + axes[a].window - 1;
  }
  return index;
}

/// scale * q k^T + bias of one query over keys.
std::vector<double> scores(const Problem& problem, double scale, const Inputs& in, const Query& query,
                           const std::vector<Key>& keys) {
  const std::vector<double> q = row(in.q, query);
  std::vector<double> found;
  for (const Key& key : keys) {
    const bool biased = problem.relative_bias && !key.extra;
    const double bias = biased ? row(in.rpb, query.head, bias_index(problem, query, key), 0).front() : 0.0;
    found.push_back(scale * dot(q, row(in.k, in.extra_k, key)) + bias);
  }
  return found;
}

/// Softmax of the scores of one query over the keys that it attends to.
struct Weights {
  std::vector<Key> keys;
  std::vector<double> p;
  double lse = 0;
  double max_abs_score = 0;
};

Weights softmax(const Problem& problem, const Inputs& in, const Query& query) {
  Weights w;
  w.keys = attended_keys(problem, query);
  w.p = scores(problem, problem.effective_scale(), in, query, w.keys);
  double max = -std::numeric_limits<double>::infinity();
  for (const double score : w.p) {
    max = std::max(max, score);
    if (std::isfinite(score)) w.max_abs_score = std::max(w.max_abs_score, std::abs(score));
  }
  double sum = 0;
  for (double& p : w.p) {
    p = std::exp(p - max);
    sum += p;
  }
  for (double& p : w.p) p /= sum;
  w.lse = max + std::log(sum);
  return w;
}

/// The weights of one query, and the gradients of its scores.
struct ScoreGradients : Weights {
  std::vector<double> ds;
};

ScoreGradients score_gradients(const Problem& problem, const Inputs& in, const ConstTensorView& dout,
                               const Query& query) {
  ScoreGradients g{softmax(problem, in, query), {}};
  // dp = dout v^T; the softmax passes back p (dp - delta) with delta = sum p dp.
  const auto dout_row = row(dout, query);
  std::vector<double> dp;
  double delta = 0;
  for (std::size_t i = 0; i < g.keys.size(); ++i) {
    dp.push_back(dot(dout_row, row(in.v, in.extra_v, g.keys[i])));
    delta += g.p[i] * dp[i];
  }
  for (std::size_t i = 0; i < g.keys.size(); ++i) g.ds.push_back(g.p[i] * (dp[i] - delta));
  return g;
}

/// All coordinates along each axis.
std::array<std::vector<int64_t>, 3> all_coordinates(const Problem& problem) {
  const auto axes = problem.axes3();
  std::array<std::vector<int64_t>, 3> x;
  for (std::size_t a = 0; a < 3; ++a) x[a] = coordinates(axes[a], [](int64_t) { return true; });
  return x;
}

/// All queries of a problem, in the order of out.
std::vector<Query> all_queries(const Problem& problem) {
  const auto x = all_coordinates(problem);
  std::vector<Query> queries;
  for (int64_t b = 0; b < problem.batch; ++b) {
    for_each_token(x, [&](const auto& token) {
      for (int64_t h = 0; h < problem.heads; ++h) queries.push_back({b, token, h});
    });
  }
  return queries;
}

int64_t offset(const TokenShape& shape, int64_t batch, const std::array<int64_t, 3>& token, int64_t head) {
  const TokenStrides s = TokenStrides::contiguous(shape);
  return batch * s.batch + token[0] * s.layout[0] + token[1] * s.layout[1] + token[2] * s.layout[2] + head * s.heads;
}

std::vector<double> zeros(const TokenShape& shape) {
  return std::vector<double>(static_cast<std::size_t>(shape.elements()), 0.0);
}

}  // namespace

bool attends(const Axis& axis, int64_t query, int64_t key) {
  const int64_t group = query % axis.dilation;
  if (key % axis.dilation != group) return false;
  const int64_t p = query / axis.dilation;
  const int64_t p_key = key / axis.dilation;
  const int64_t n = (axis.extent - group + axis.dilation - 1) / axis.dilation;
  const int64_t left = axis.window / 2;
  const int64_t right = axis.window / 2 + axis.window % 2 - 1;
  const int64_t first = (p / axis.stride) * axis.stride;
  if (axis.causal) {
    const int64_t leader = std::min(first + axis.stride - 1, n - 1);
    const int64_t start = std::max<int64_t>(leader - left - right, 0);
    return start <= p_key && p_key <= p;
  }
  const int64_t leader = std::min(first + axis.stride / 2, n - 1);
  int64_t start = std::max<int64_t>(leader - left, 0);
  if (leader + right >= n) start -= leader + right + 1 - n;
  return start <= p_key && p_key < start + axis.window;
}

Forward forward(const Problem& problem, const Inputs& in, std::span<const Query> queries) {
  Forward result;
  for (const Query& query : queries) {
    const Weights w = softmax(problem, in, query);
    std::vector<double> out(static_cast<std::size_t>(problem.head_dim_v), 0.0);
    for (std::size_t i = 0; i < w.keys.size(); ++i) {
      add_scaled(out.data(), w.p[i], row(in.v, in.extra_v, w.keys[i]));
    }
    result.out.insert(result.out.end(), out.begin(), out.end());
    result.lse.push_back(w.lse);
    result.max_abs_score = std::max(result.max_abs_score, w.max_abs_score);
  }
  return result;
}

Forward forward(const Problem& problem, const Inputs& inputs) { return forward(problem, inputs, all_queries(problem)); }

namespace {

/// A result of backward() and its like, and its shape, for extra tokens or not.
struct Target {
  std::vector<double>& values;
  TokenShape shape;

  double* row(const Key& key) const { return values.data() + offset(shape, key.batch, key.token, key.head_kv); }
};

/// Adds what the gradients of one query's scores pass on to q, k and the table.
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

/// Adds what one query passes on to v.
void add_value_gradients(const Problem& problem, const std::vector<double>& dout, const std::vector<Key>& keys,
                         const std::vector<double>& p, ValuesBackward& result) {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Key& key = keys[i];
    const Target dv = key.extra ? Target{result.dextra_v, extra_v_shape(problem)} : Target{result.dv, v_shape(problem)};
    add_scaled(dv.row(key), p[i], dout);
  }
}

WeightsBackward zero_weights_backward(const Problem& problem) {
  return {zeros(q_shape(problem)), zeros(k_shape(problem)), zeros(extra_k_shape(problem)),
          problem.relative_bias ? zeros(rpb_shape(problem)) : std::vector<double>()};
}

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

Backward backward(const Problem& problem, const Inputs& in, const ConstTensorView& dout) {
  WeightsBackward of_weights = zero_weights_backward(problem);
  ValuesBackward of_values{{}, zeros(v_shape(problem)), zeros(extra_v_shape(problem))};
  for (const Query& query : all_queries(problem)) {
    const ScoreGradients g = score_gradients(problem, in, dout, query);
    add_score_gradients(problem, problem.effective_scale(), in, query, g.keys, g.ds, of_weights);
    add_value_gradients(problem, row(dout, query), g.keys, g.p, of_values);
  }
  return {std::move(of_weights.dq),       std::move(of_weights.dk),      std::move(of_values.dv),
          std::move(of_weights.dextra_k), std::move(of_values.dextra_v), std::move(of_weights.drpb)};
}

QueryGradients backward_queries(const Problem& problem, const Inputs& in, const ConstTensorView& dout,
                                std::span<const Query> queries) {
  QueryGradients result;
  for (const Query& query : queries) {
    const ScoreGradients g = score_gradients(problem, in, dout, query);
    std::vector<double> dq(static_cast<std::size_t>(problem.head_dim), 0.0);
    for (std::size_t i = 0; i < g.keys.size(); ++i) {
      add_scaled(dq.data(), problem.effective_scale() * g.ds[i], row(in.k, in.extra_k, g.keys[i]));
    }
    result.dq.insert(result.dq.end(), dq.begin(), dq.end());
  }
  return result;
}

namespace {

/// The weight of a pair and the gradient of its score, from the saved lse and out.
struct PairGradient {
  double p = 0, ds = 0;
};

PairGradient pair_gradient(const Problem& problem, const Inputs& in, const SavedForBackward& saved, const Query& query,
                           const Key& key) {
  const std::vector<double> dout = row(saved.dout, query), v = row(in.v, in.extra_v, key);
  const double score = scores(problem, problem.effective_scale(), in, query, {key}).front();
  const double p = std::exp(score - row(saved.lse, query).front());
  // delta = sum p dp over what the query attends to, as dout times out. If that is one key, the score has no
  // gradient, and the rounding of out and lse must not give it one.
  const double delta = problem.keys_per_query() == 1 ? dot(dout, v) : dot(dout, row(saved.out, query));
  return {p, p * (dot(dout, v) - delta)};
}

}  // namespace

KeyGradients backward_keys(const Problem& problem, const Inputs& in, const SavedForBackward& saved,
                           std::span<const Key> keys) {
  KeyGradients result;
  for (const Key& key : keys) {
    std::vector<double> dk(static_cast<std::size_t>(problem.head_dim), 0.0);
    std::vector<double> dv(static_cast<std::size_t>(problem.head_dim_v), 0.0);
    for (const Query& query : attending_queries(problem, key)) {
      const PairGradient g = pair_gradient(problem, in, saved, query, key);
      add_scaled(dk.data(), problem.effective_scale() * g.ds, row(in.q, query));
      add_scaled(dv.data(), g.p, row(saved.dout, query));
    }
    result.dk.insert(result.dk.end(), dk.begin(), dk.end());
    result.dv.insert(result.dv.end(), dv.begin(), dv.end());
  }
  return result;
}

std::vector<double> backward_bias(const Problem& problem, const Inputs& in, const SavedForBackward& saved,
                                  std::span<const Offset> offsets) {
  std::vector<double> drpb;
  const auto axes = problem.axes3();
  for (const Offset& offset : offsets) {
    double sum = 0;
    for_each_token(all_coordinates(problem), [&](const auto& token) {
      Key key{0, {}, head_kv_of(problem, offset.head)};
      for (std::size_t a = 0; a < 3; ++a) {
        key.token[a] = token[a] + (offset.index[a] - (axes[a].window - 1)) * axes[a].dilation;
        if (key.token[a] < 0 || key.token[a] >= axes[a].extent || !attends(axes[a], token[a], key.token[a])) return;
      }
      for (int64_t b = 0; b < problem.batch; ++b) {
        key.batch = b;
        sum += pair_gradient(problem, in, saved, {b, token, offset.head}, key).ds;
      }
    });
    drpb.push_back(sum);
  }
  return drpb;
}

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
  ValuesBackward result{{}, zeros(v_shape(problem)), zeros(extra_v_shape(problem))};
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

NamedResults by_name(Forward results) {
  NamedResults named;
  named["out"] = std::move(results.out);
  named["lse"] = std::move(results.lse);
  return named;
}

NamedResults by_name(Backward results) {
  NamedResults named;
  named["dq"] = std::move(results.dq);
  named["dk"] = std::move(results.dk);
  named["dv"] = std::move(results.dv);
  named["dextra_k"] = std::move(results.dextra_k);
  named["dextra_v"] = std::move(results.dextra_v);
  named["drpb"] = std::move(results.drpb);
  return named;
}

NamedResults by_name(WeightsBackward results) {
  NamedResults named;
  named["dq"] = std::move(results.dq);
  named["dk"] = std::move(results.dk);
  named["dextra_k"] = std::move(results.dextra_k);
  named["drpb"] = std::move(results.drpb);
  return named;
}

NamedResults by_name(ValuesBackward results) {
  NamedResults named;
  named["dattn"] = std::move(results.dattn);
  named["dv"] = std::move(results.dv);
  named["dextra_v"] = std::move(results.dextra_v);
  return named;
}

NamedResults by_name(QueryGradients results) {
  NamedResults named;
  named["dq"] = std::move(results.dq);
  return named;
}

NamedResults by_name(KeyGradients results, bool extra) {
  NamedResults named;
  named[extra ? "dextra_k" : "dk"] = std::move(results.dk);
  named[extra ? "dextra_v" : "dv"] = std::move(results.dv);
  return named;
}

namespace {

/// Rounds to the element type of a tensor and stores; values are contiguous in the order of the view's extents.
void store(const std::vector<double>& values, const TensorView& target) {
  with_element_type(target.type, [&](auto element) {
    using T = decltype(element);
    const TokenView<T> view = target.as<T>();
    const TokenShape& s = target.shape;
    std::size_t i = 0;
    for (int64_t b = 0; b < s.batch; ++b) {
      for (int64_t x1 = 0; x1 < s.layout[0]; ++x1) {
        for (int64_t x2 = 0; x2 < s.layout[1]; ++x2) {
          for (int64_t x3 = 0; x3 < s.layout[2]; ++x3) {
            for (int64_t h = 0; h < s.heads; ++h) {
              T* data = view.row(b, x1, x2, x3, h);
              for (int64_t c = 0; c < s.dim; ++c) data[c] = from_float<T>(static_cast<float>(values[i++]));
            }
          }
        }
      }
    }
  });
}

/// Stores the results that a bundle has.
template <class Bundle>
void store(const Problem& problem, const NamedResults& results, const Bundle& bundle) {
  visit_tensors(problem, bundle,
                [&](const TensorInfo& info, const TensorView& view) { store(results.at(info.name), view); });
}

void run_forward(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution&) {
  store(plan.problem(), by_name(forward(plan.problem(), inputs)), outputs);
}

void run_backward(const Plan& plan, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
                  const Execution&) {
  store(plan.problem(), by_name(backward(plan.problem(), inputs, saved.dout)), gradients);
}

/// Stores the gradients of the inputs that a split operator reads.
void store_part(const Plan& plan, const NamedResults& results, const Gradients& gradients) {
  visit_tensors(plan.problem(), gradients, [&](const TensorInfo& info, const TensorView& view) {
    if (results.contains(info.name)) store(results.at(info.name), view);
  });
}

constexpr SplitOperators kSplitOperators{
    .weights = [](const Plan& plan, const Inputs& inputs, const TensorView& attn,
                  const Execution&) { store(weights(plan.problem(), inputs), attn); },
    .weights_backward =
        [](const Plan& plan, const Inputs& inputs, const ConstTensorView& dattn, const Gradients& gradients,
           const Execution&) { store_part(plan, by_name(weights_backward(plan.problem(), inputs, dattn)), gradients); },
    .values = [](const Plan& plan, const ConstTensorView& attn, const Inputs& inputs, const TensorView& out,
                 const Execution&) { store(values(plan.problem(), attn, inputs), out); },
    .values_backward =
        [](const Plan& plan, const ConstTensorView& attn, const Inputs& inputs, const ConstTensorView& dout,
           const TensorView& dattn, const Gradients& gradients, const Execution&) {
          const NamedResults results = by_name(values_backward(plan.problem(), attn, inputs, dout));
          store(results.at("dattn"), dattn);
          store_part(plan, results, gradients);
        },
};

}  // namespace

Variant variant() {
  return {
      .name = "reference",
      .paper_term = "reference mask (by definition)",
      .summary = "Double, scalar, by membership test: the oracle of every other variant.",
      .is_oracle = true,
      .expected_flops_per_second = 1e9,
      .supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; },
      .takes = [](const Arithmetic& arithmetic, Pass) { return arithmetic.name == kF64Scalar; },
      .cost = [](const PlanChoice& choice) -> PlanCost {
        return {.executed_flops = choice.problem.useful_flops(choice.pass)};
      },
      .forward = run_forward,
      .backward = run_backward,
      .split = &kSplitOperators,
  };
}

}  // namespace nalab::reference
