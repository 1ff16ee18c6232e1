#include "experiments/runner/verification.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace nalab::runner {

namespace {

/// Queries or keys that one task gives to the oracle.
constexpr std::size_t kRowsPerTask = 8;

/// A row of a tensor.
struct TensorRow {
  int64_t batch = 0;
  std::array<int64_t, 3> token{0, 0, 0};
  int64_t head = 0;
};

/// Position of a row in its tensor, counted in rows.
int64_t flat(const TokenShape& s, const TensorRow& row) {
  const auto& [x1, x2, x3] = row.token;
  return (((row.batch * s.layout[0] + x1) * s.layout[1] + x2) * s.layout[2] + x3) * s.heads + row.head;
}

TensorRow row_at(const TokenShape& s, int64_t position) {
  TensorRow row;
  row.head = position % s.heads;
  position /= s.heads;
  for (int axis = 2; axis >= 0; --axis) {
    row.token[axis] = position % s.layout[axis];
    position /= s.layout[axis];
  }
  row.batch = position;
  return row;
}

/// `count` rows spread over a tensor: see choose_queries.
std::vector<TensorRow> choose_rows(const TokenShape& shape, int64_t count, int64_t seed) {
  const int64_t total = shape.batch * shape.tokens() * shape.heads;
  std::vector<int64_t> positions;
  if (count >= total) {
    for (int64_t position = 0; position < total; ++position) positions.push_back(position);
  } else {
    for (int corner = 0; corner < 8; ++corner) {
      std::array<int64_t, 3> token;
      for (int axis = 0; axis < 3; ++axis) token[axis] = (corner >> axis & 1) != 0 ? shape.layout[axis] - 1 : 0;
      positions.push_back(flat(shape, {0, token, 0}));
      positions.push_back(flat(shape, {shape.batch - 1, token, shape.heads - 1}));
    }
    std::mt19937_64 random(static_cast<uint64_t>(seed));
    const double stretch = static_cast<double>(total) / static_cast<double>(count);
    for (int64_t i = 0; i < count; ++i) {
      const auto begin = static_cast<int64_t>(static_cast<double>(i) * stretch);
      const auto end = std::min(total, static_cast<int64_t>(static_cast<double>(i + 1) * stretch));
      const int64_t size = std::max<int64_t>(end - begin, 1);
      positions.push_back(begin + static_cast<int64_t>(random() % static_cast<uint64_t>(size)));
    }
    std::sort(positions.begin(), positions.end());
    positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
  }
  std::vector<TensorRow> rows;
  for (const int64_t position : positions) rows.push_back(row_at(shape, position));
  return rows;
}

/// The results of work(some of the rows) for all rows, in their order.
template <class Part, class Row, class Work>
std::vector<Part> in_parts(const std::vector<Row>& rows, Workers& workers, const Work& work) {
  std::vector<Part> parts((rows.size() + kRowsPerTask - 1) / kRowsPerTask);
  workers.for_each(std::ssize(parts), [&](int64_t task, int) {
    const std::size_t begin = static_cast<std::size_t>(task) * kRowsPerTask;
    const std::size_t size = std::min(kRowsPerTask, rows.size() - begin);
    parts[static_cast<std::size_t>(task)] = work(std::span(rows).subspan(begin, size));
  });
  return parts;
}

void append(std::vector<double>& values, const std::vector<double>& more) {
  values.insert(values.end(), more.begin(), more.end());
}

/// Greatest finite |x|.
template <class T>
double max_abs(const std::vector<T>& values) {
  double max = 0;
  for (const T x : values) {
    if (std::isfinite(x)) max = std::max(max, std::abs(static_cast<double>(x)));
  }
  return max;
}

TensorRow row_of(const reference::Query& query) { return {query.batch, query.token, query.head}; }
TensorRow row_of(const reference::Key& key) { return {key.batch, key.token, key.head_kv}; }

/// The rows of those queries or keys, one after the other.
template <class Rows>
std::vector<float> gather(const Tensor& tensor, const Rows& rows) {
  return with_element_type(tensor.type(), [&](auto element) {
    const auto view = tensor.view().as<decltype(element)>();
    std::vector<float> values;
    values.reserve(rows.size() * static_cast<std::size_t>(view.shape.dim));
    for (const auto& each : rows) {
      const auto [b, x, h] = row_of(each);
      const auto* row = view.row(b, x[0], x[1], x[2], h);
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
  std::vector<reference::Query> queries;
  for (const auto& [b, x, h] : choose_rows(out_shape(problem), count, seed)) queries.push_back({b, x, h});
  return queries;
}

std::vector<reference::Key> choose_keys(const Problem& problem, int64_t count, int64_t seed) {
  std::vector<reference::Key> keys;
  for (const auto& [b, x, h] : choose_rows(k_shape(problem), count, seed)) keys.push_back({b, x, h});
  return keys;
}

std::vector<reference::Key> choose_extra_tokens(const Problem& problem, int64_t count, int64_t seed) {
  std::vector<reference::Key> keys;
  if (count == 0) return keys;
  for (const auto& [b, x, h] : choose_rows(extra_k_shape(problem), count, seed)) keys.push_back({b, x, h, true});
  return keys;
}

reference::Forward oracle_forward(const Problem& problem, const Inputs& inputs,
                                  const std::vector<reference::Query>& queries, Workers& workers) {
  reference::Forward all;
  for (const auto& part : in_parts<reference::Forward>(
           queries, workers, [&](const auto& some) { return reference::forward(problem, inputs, some); })) {
    append(all.out, part.out);
    append(all.lse, part.lse);
    all.max_abs_score = std::max(all.max_abs_score, part.max_abs_score);
  }
  return all;
}

const Verifier::Expected& Verifier::expected(const plan::PlannedRow& row) {
  const auto [it, is_new] = by_problem_.try_emplace(row.problem.id());
  Expected& e = it->second;
  if (!is_new) return e;
  const Inputs inputs = tensors_.inputs();
  e.queries = choose_queries(row.problem, row.verified_queries, settings_.seed);
  e.forward = oracle_forward(row.problem, inputs, e.queries, workers_);
  if (row.pass == config::RowPass::forward) return e;
  if (!row.gradient_sample) {
    e.backward = reference::backward(row.problem, inputs, tensors_.dout().view());
    return e;
  }
  e.gradient_queries = choose_queries(row.problem, row.gradient_sample->queries, settings_.seed);
  for (const auto& part : in_parts<std::vector<double>>(e.gradient_queries, workers_, [&](const auto& some) {
         return reference::backward_queries(row.problem, inputs, tensors_.dout().view(), some);
       })) {
    append(e.backward.dq, part);
  }
  return e;
}

Verdict Verifier::verify(const plan::PlannedRow& row) {
  const Expected& e = expected(row);
  const double score = e.forward.max_abs_score;
  Verdict verdict;
  verdict.verified_queries = static_cast<int64_t>(e.queries.size());
  const Tolerance output_bound = tolerance(row.problem.type, TensorKind::output, score);
  const double v_scale = max_abs(to_floats(tensors_.v()));
  add(verdict, "out", compare(gather(tensors_.out(), e.queries), e.forward.out, output_bound, v_scale));
  add(verdict, "lse", compare(gather(tensors_.lse(), e.queries), e.forward.lse, output_bound, v_scale));
  if (row.gradient_sample) {
    verify_gradient_sample(row, e, verdict);
  } else if (row.pass == config::RowPass::forward_backward) {
    verify_gradients(row, e, verdict);
  }
  return verdict;
}

void Verifier::verify_gradients(const plan::PlannedRow& row, const Expected& e, Verdict& verdict) {
  const std::map<std::string_view, const std::vector<double>*> reference{{"dq", &e.backward.dq},
                                                                         {"dk", &e.backward.dk},
                                                                         {"dv", &e.backward.dv},
                                                                         {"dextra_k", &e.backward.dextra_k},
                                                                         {"dextra_v", &e.backward.dextra_v}};
  const double dv_scale = max_abs(e.backward.dv);
  const Tolerance bound = tolerance(row.problem.type, TensorKind::gradient, e.forward.max_abs_score);
  for (const auto& [name, tensor] : tensors_.named_gradients()) {
    add(verdict, name, compare(to_floats(*tensor), *reference.at(name), bound, dv_scale));
  }
}

void Verifier::verify_gradient_sample(const plan::PlannedRow& row, const Expected& e, Verdict& verdict) {
  const plan::GradientSample& sample = *row.gradient_sample;
  const auto keys = choose_keys(row.problem, sample.keys, settings_.seed);
  const auto extra = choose_extra_tokens(row.problem, sample.extra_tokens, settings_.seed);
  const auto oracle = [&](const std::vector<reference::Key>& some) {
    reference::KeyGradients all;
    for (const auto& part : in_parts<reference::KeyGradients>(some, workers_, [&](const auto& few) {
           return reference::backward_keys(row.problem, tensors_.inputs(), tensors_.saved(), few);
         })) {
      append(all.dk, part.dk);
      append(all.dv, part.dv);
    }
    return all;
  };
  const reference::KeyGradients of_keys = oracle(keys), of_extra = oracle(extra);
  const double dv_scale = max_abs(of_keys.dv);
  const Tolerance bound = tolerance(row.problem.type, TensorKind::gradient, e.forward.max_abs_score);
  for (const auto& [name, tensor] : tensors_.named_gradients()) {
    const std::string_view which = name;
    if (which == "dq") {
      add(verdict, name, compare(gather(*tensor, e.gradient_queries), e.backward.dq, bound, dv_scale));
    } else if (which.starts_with("dextra")) {
      const auto& expected_rows = which == "dextra_k" ? of_extra.dk : of_extra.dv;
      add(verdict, name, compare(gather(*tensor, extra), expected_rows, bound, dv_scale));
    } else {
      add(verdict, name, compare(gather(*tensor, keys), which == "dk" ? of_keys.dk : of_keys.dv, bound, dv_scale));
    }
  }
  if (row.problem.extra_tokens > 0 && extra.empty()) {
    verdict.not_verified = "dextra_k and dextra_v were not verified: their oracle would take longer than the budget";
  }
}

}  // namespace nalab::runner
