#include "experiments/runner/verification.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace nalab::runner {

namespace {

/// Queries that one task gives to the oracle.
constexpr std::size_t kQueriesPerTask = 16;

/// Position of a query in out, counted in rows.
int64_t flat(const TokenShape& s, const reference::Query& query) {
  const auto& [x1, x2, x3] = query.token;
  return (((query.batch * s.layout[0] + x1) * s.layout[1] + x2) * s.layout[2] + x3) * s.heads + query.head;
}

reference::Query query_at(const TokenShape& s, int64_t row) {
  reference::Query query;
  query.head = row % s.heads;
  row /= s.heads;
  for (int axis = 2; axis >= 0; --axis) {
    query.token[axis] = row % s.layout[axis];
    row /= s.layout[axis];
  }
  query.batch = row;
  return query;
}

double max_abs(const Tensor& tensor) {
  double max = 0;
  for (const float x : to_floats(tensor)) {
    if (std::isfinite(x)) max = std::max(max, std::abs(static_cast<double>(x)));
  }
  return max;
}

/// The rows of those queries, one after the other.
std::vector<float> gather(const Tensor& tensor, const std::vector<reference::Query>& queries) {
  return with_element_type(tensor.type(), [&](auto element) {
    const auto view = tensor.view().as<decltype(element)>();
    std::vector<float> values;
    values.reserve(queries.size() * static_cast<std::size_t>(view.shape.dim));
    for (const reference::Query& q : queries) {
      const auto* row = view.row(q.batch, q.token[0], q.token[1], q.token[2], q.head);
      for (int64_t c = 0; c < view.shape.dim; ++c) values.push_back(to_float(row[c]));
    }
    return values;
  });
}

/// Keeps the greater error, measured by its bound.
void keep_greater(double& error, double& bound, double other_error, double other_bound) {
  if (bound == 0 || other_error * bound > error * other_bound) {
    error = other_error;
    bound = other_bound;
  }
}

void add(Verdict& verdict, const char* tensor, const Comparison& comparison) {
  keep_greater(verdict.error_frobenius, verdict.bound_frobenius, comparison.frobenius, comparison.bound.frobenius);
  keep_greater(verdict.error_max, verdict.bound_max, comparison.max_abs, comparison.bound.max_abs);
  if (comparison.ok) return;
  verdict.failure += (verdict.failure.empty() ? "" : "; ") + std::string(tensor) + ": " + comparison.to_string();
}

}  // namespace

std::vector<reference::Query> choose_queries(const Problem& problem, int64_t count, int64_t seed) {
  const TokenShape shape = out_shape(problem);
  const int64_t total = shape.batch * shape.tokens() * shape.heads;
  std::vector<int64_t> rows;
  if (count >= total) {
    for (int64_t row = 0; row < total; ++row) rows.push_back(row);
  } else {
    for (int corner = 0; corner < 8; ++corner) {
      std::array<int64_t, 3> token;
      for (int axis = 0; axis < 3; ++axis) token[axis] = (corner >> axis & 1) != 0 ? shape.layout[axis] - 1 : 0;
      rows.push_back(flat(shape, {0, token, 0}));
      rows.push_back(flat(shape, {shape.batch - 1, token, shape.heads - 1}));
    }
    std::mt19937_64 random(static_cast<uint64_t>(seed));
    const double stretch = static_cast<double>(total) / static_cast<double>(count);
    for (int64_t i = 0; i < count; ++i) {
      const auto begin = static_cast<int64_t>(static_cast<double>(i) * stretch);
      const auto end = std::min(total, static_cast<int64_t>(static_cast<double>(i + 1) * stretch));
      rows.push_back(begin + static_cast<int64_t>(random() % static_cast<uint64_t>(std::max<int64_t>(end - begin, 1))));
    }
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  }
  std::vector<reference::Query> queries;
  for (const int64_t row : rows) queries.push_back(query_at(shape, row));
  return queries;
}

reference::Forward oracle_forward(const Problem& problem, const Inputs& inputs,
                                  const std::vector<reference::Query>& queries, Workers& workers) {
  const std::size_t tasks = (queries.size() + kQueriesPerTask - 1) / kQueriesPerTask;
  std::vector<reference::Forward> parts(tasks);
  workers.for_each(static_cast<int64_t>(tasks), [&](int64_t task, int) {
    const std::size_t begin = static_cast<std::size_t>(task) * kQueriesPerTask;
    const std::size_t size = std::min(kQueriesPerTask, queries.size() - begin);
    parts[static_cast<std::size_t>(task)] = reference::forward(problem, inputs, {queries.data() + begin, size});
  });
  reference::Forward all;
  for (const reference::Forward& part : parts) {
    all.out.insert(all.out.end(), part.out.begin(), part.out.end());
    all.lse.insert(all.lse.end(), part.lse.begin(), part.lse.end());
    all.max_abs_score = std::max(all.max_abs_score, part.max_abs_score);
  }
  return all;
}

const Verifier::Expected& Verifier::expected(const plan::Row& row) {
  const auto [it, is_new] = by_problem_.try_emplace(row.problem.id());
  Expected& e = it->second;
  if (is_new) {
    const Inputs inputs = tensors_.inputs();
    e.queries = choose_queries(row.problem, row.verified_queries, settings_.seed);
    e.forward = oracle_forward(row.problem, inputs, e.queries, workers_);
    if (row.pass == config::RowPass::forward_backward) {
      e.backward = reference::backward(row.problem, inputs, tensors_.dout().view());
    }
  }
  return e;
}

Verdict Verifier::verify(const plan::Row& row) {
  const Expected& e = expected(row);
  const double score = e.forward.max_abs_score;
  Verdict verdict;
  verdict.verified_queries = static_cast<int64_t>(e.queries.size());
  const Tolerance output_bound = tolerance(row.problem.type, TensorKind::output, score);
  const double v_scale = max_abs(tensors_.v());
  add(verdict, "out", compare(gather(tensors_.out(), e.queries), e.forward.out, output_bound, v_scale));
  add(verdict, "lse", compare(gather(tensors_.lse(), e.queries), e.forward.lse, output_bound, v_scale));
  const std::vector<GroupTensors::Named> gradients = tensors_.named_gradients();
  if (gradients.empty()) return verdict;

  const std::map<std::string_view, const std::vector<double>*> reference{{"dq", &e.backward.dq},
                                                                         {"dk", &e.backward.dk},
                                                                         {"dv", &e.backward.dv},
                                                                         {"dextra_k", &e.backward.dextra_k},
                                                                         {"dextra_v", &e.backward.dextra_v}};
  double dv_scale = 0;
  for (const double x : e.backward.dv) dv_scale = std::max(dv_scale, std::abs(x));
  const Tolerance gradient_bound = tolerance(row.problem.type, TensorKind::gradient, score);
  for (const auto& [name, tensor] : gradients) {
    add(verdict, name, compare(to_floats(*tensor), *reference.at(name), gradient_bound, dv_scale));
  }
  return verdict;
}

}  // namespace nalab::runner
