#include <cmath>
#include <limits>

#include "core/kernels/reference/gradient_sums.h"

namespace nalab::reference {

namespace {

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

Backward backward(const Problem& problem, const Inputs& in, const ConstTensorView& dout) {
  WeightsBackward of_weights = zero_weights_backward(problem);
  ValuesBackward of_values = zero_values_backward(problem);
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

}  // namespace nalab::reference
