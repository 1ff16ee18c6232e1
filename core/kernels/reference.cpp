#include "core/kernels/reference.h"

#include <cmath>
#include <limits>

#include "core/kernels/variants.h"

namespace nalab::reference {

namespace {

/// A token of the layout, or, where `extra` is not negative, an extra token.
struct Key {
  std::array<int64_t, 3> token{0, 0, 0};
  int64_t extra = -1;
};

/// Coordinates along one axis that a query coordinate attends to, by testing every one.
std::vector<int64_t> attended_coordinates(const Axis& axis, int64_t query) {
  std::vector<int64_t> keys;
  for (int64_t key = 0; key < axis.extent; ++key) {
    if (attends(axis, query, key)) keys.push_back(key);
  }
  return keys;
}

std::vector<Key> attended_keys(const Problem& problem, const std::array<int64_t, 3>& query) {
  const auto axes = problem.axes3();
  const auto x1s = attended_coordinates(axes[0], query[0]);
  const auto x2s = attended_coordinates(axes[1], query[1]);
  const auto x3s = attended_coordinates(axes[2], query[2]);
  std::vector<Key> keys;
  for (int64_t x1 : x1s) {
    for (int64_t x2 : x2s) {
      for (int64_t x3 : x3s) keys.push_back({.token = {x1, x2, x3}});
    }
  }
  for (int64_t e = 0; e < problem.extra_tokens; ++e) keys.push_back({.extra = e});
  return keys;
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

std::vector<double> key_row(const ConstTensorView& layout, const ConstTensorView& extra, int64_t batch, const Key& key,
                            int64_t head_kv) {
  if (key.extra >= 0) return row(extra, batch, {0, 0, key.extra}, head_kv);
  return row(layout, batch, key.token, head_kv);
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t c = 0; c < a.size(); ++c) sum += a[c] * b[c];
  return sum;
}

void add_scaled(double* target, double factor, const std::vector<double>& x) {
  for (std::size_t c = 0; c < x.size(); ++c) target[c] += factor * x[c];
}

int64_t head_kv_of(const Problem& problem, int64_t head) { return head / (problem.heads / problem.heads_kv); }

/// Softmax of the scaled scores of one query over the keys that it attends to.
struct Weights {
  std::vector<Key> keys;
  std::vector<double> p;
  double lse = 0;
  double max_abs_score = 0;
};

Weights weights(const Problem& problem, const Inputs& in, const Query& query) {
  Weights w;
  w.keys = attended_keys(problem, query.token);
  const double scale = problem.effective_scale();
  const int64_t head_kv = head_kv_of(problem, query.head);
  const std::vector<double> q = row(in.q, query.batch, query.token, query.head);
  double max = -std::numeric_limits<double>::infinity();
  for (const Key& key : w.keys) {
    const double score = scale * dot(q, key_row(in.k, in.extra_k, query.batch, key, head_kv));
    w.p.push_back(score);
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

/// All queries of a problem, in the order of out.
std::vector<Query> all_queries(const Problem& problem) {
  const auto axes = problem.axes3();
  std::vector<Query> queries;
  for (int64_t b = 0; b < problem.batch; ++b) {
    for (int64_t x1 = 0; x1 < axes[0].extent; ++x1) {
      for (int64_t x2 = 0; x2 < axes[1].extent; ++x2) {
        for (int64_t x3 = 0; x3 < axes[2].extent; ++x3) {
          for (int64_t h = 0; h < problem.heads; ++h) queries.push_back({b, {x1, x2, x3}, h});
        }
      }
    }
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
    const Weights w = weights(problem, in, query);
    std::vector<double> out(static_cast<std::size_t>(problem.head_dim_v), 0.0);
    for (std::size_t i = 0; i < w.keys.size(); ++i) {
      const auto v = key_row(in.v, in.extra_v, query.batch, w.keys[i], head_kv_of(problem, query.head));
      add_scaled(out.data(), w.p[i], v);
    }
    result.out.insert(result.out.end(), out.begin(), out.end());
    result.lse.push_back(w.lse);
    result.max_abs_score = std::max(result.max_abs_score, w.max_abs_score);
  }
  return result;
}

Forward forward(const Problem& problem, const Inputs& inputs) { return forward(problem, inputs, all_queries(problem)); }

Backward backward(const Problem& problem, const Inputs& in, const ConstTensorView& dout) {
  Backward result{zeros(q_shape(problem)), zeros(k_shape(problem)), zeros(v_shape(problem)),
                  zeros(extra_k_shape(problem)), zeros(extra_v_shape(problem))};
  const double scale = problem.effective_scale();
  for (const Query& query : all_queries(problem)) {
    const Weights w = weights(problem, in, query);
    const int64_t head_kv = head_kv_of(problem, query.head);
    const auto q = row(in.q, query.batch, query.token, query.head);
    const auto dout_row = row(dout, query.batch, query.token, query.head);
    // dp = dout v^T; the softmax passes back p (dp - delta) with delta = sum p dp.
    std::vector<double> dp;
    double delta = 0;
    for (std::size_t i = 0; i < w.keys.size(); ++i) {
      dp.push_back(dot(dout_row, key_row(in.v, in.extra_v, query.batch, w.keys[i], head_kv)));
      delta += w.p[i] * dp[i];
    }
    double* dq = result.dq.data() + offset(q_shape(problem), query.batch, query.token, query.head);
    for (std::size_t i = 0; i < w.keys.size(); ++i) {
      const Key& key = w.keys[i];
      const double ds = scale * w.p[i] * (dp[i] - delta);
      add_scaled(dq, ds, key_row(in.k, in.extra_k, query.batch, key, head_kv));
      const bool extra = key.extra >= 0;
      const std::array<int64_t, 3> token = extra ? std::array<int64_t, 3>{0, 0, key.extra} : key.token;
      const TokenShape k_like = extra ? extra_k_shape(problem) : k_shape(problem);
      const TokenShape v_like = extra ? extra_v_shape(problem) : v_shape(problem);
      double* dk = (extra ? result.dextra_k : result.dk).data() + offset(k_like, query.batch, token, head_kv);
      double* dv = (extra ? result.dextra_v : result.dv).data() + offset(v_like, query.batch, token, head_kv);
      add_scaled(dk, ds, q);
      add_scaled(dv, w.p[i], dout_row);
    }
  }
  return result;
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

void run_forward(const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution&) {
  const Forward result = forward(problem, inputs);
  store(result.out, outputs.out);
  store(result.lse, outputs.lse);
}

void run_backward(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved,
                  const Gradients& gradients, const Execution&) {
  const Backward result = backward(problem, inputs, saved.dout);
  store(result.dq, gradients.dq);
  store(result.dk, gradients.dk);
  store(result.dv, gradients.dv);
  if (problem.extra_tokens > 0) {
    store(result.dextra_k, gradients.dextra_k);
    store(result.dextra_v, gradients.dextra_v);
  }
}

}  // namespace

Variant variant() {
  return {
      .name = "reference",
      .paper_term = "reference mask (by definition)",
      .summary = "Double, scalar, by membership test: the oracle of every other variant.",
      .supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; },
      .workspace_bytes = [](const Problem&, Pass, int) -> int64_t { return 0; },
      .executed_flops = [](const Problem& problem, Pass pass) { return problem.useful_flops(pass); },
      .forward = run_forward,
      .backward = run_backward,
  };
}

}  // namespace nalab::reference
