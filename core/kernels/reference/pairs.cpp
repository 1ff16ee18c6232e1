#include "core/kernels/reference/pairs.h"

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

/// The dim elements of one head of one token, as double.
std::vector<double> row(const ConstTensorView& view, int64_t batch, const Token& token, int64_t head) {
  return with_element_type(view.type, [&](auto element) {
    const auto* data = view.as<decltype(element)>().row(batch, token[0], token[1], token[2], head);
    std::vector<double> values(static_cast<std::size_t>(view.shape.dim));
    for (std::size_t c = 0; c < values.size(); ++c) values[c] = to_float(data[c]);
    return values;
  });
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

std::array<std::vector<int64_t>, 3> all_coordinates(const Problem& problem) {
  const auto axes = problem.axes3();
  std::array<std::vector<int64_t>, 3> x;
  for (std::size_t a = 0; a < 3; ++a) x[a] = coordinates(axes[a], [](int64_t) { return true; });
  return x;
}

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

std::vector<double> row(const ConstTensorView& view, const Query& query) {
  return row(view, query.batch, query.token, query.head);
}

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

std::array<int64_t, 3> bias_index(const Problem& problem, const Query& query, const Key& key) {
  const auto axes = problem.axes3();
  std::array<int64_t, 3> index;
  for (std::size_t a = 0; a < 3; ++a) {
    const int64_t offset = key.token[a] / axes[a].dilation - query.token[a] / axes[a].dilation;
    index[a] = offset + axes[a].window - 1;
  }
  return index;
}

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

}  // namespace nalab::reference
