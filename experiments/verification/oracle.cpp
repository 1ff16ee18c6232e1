#include "experiments/verification/oracle.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <utility>

namespace nalab::verification {

namespace {

/// Queries or keys that one task gives to the oracle.
constexpr std::size_t kRowsPerTask = 8;

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

/// Greatest finite |x|, with x as to_number(element) gives it; 0 if there is none.
template <class T, class ToNumber>
double greatest_finite(std::span<const T> elements, const ToNumber& to_number) {
  double greatest = 0;
  for (const T& element : elements) {
    const double x = to_number(element);
    if (std::isfinite(x)) greatest = std::max(greatest, std::abs(x));
  }
  return greatest;
}

/// That of a contiguous tensor; 0 if it is absent.
double max_abs(const ConstTensorView& view) {
  if (!view.present()) return 0;
  return with_element_type(view.type, [&](auto element) {
    using T = decltype(element);
    const std::span elements(static_cast<const T*>(view.data), static_cast<std::size_t>(view.shape.elements()));
    return greatest_finite(elements, [](T x) { return static_cast<double>(to_float(x)); });
  });
}

/// Where the outputs of queries are; unset if they are all that there are.
std::optional<std::vector<TensorRow>> rows_to_compare(const Problem& problem,
                                                      const std::vector<reference::Query>& queries) {
  if (std::ssize(queries) == problem.batch * problem.tokens() * problem.heads) return std::nullopt;
  return rows_of(queries);
}

void set_all(reference::NamedResults&& results, const std::optional<std::vector<TensorRow>>& rows, Expected& expected) {
  for (auto& [name, values] : results) expected.set(name, {rows, std::move(values)});
}

}  // namespace

void Expected::set(std::string_view name, ExpectedTensor tensor) {
  if (name == "dv") gradient_scale = max_abs(tensor.values);
  tensors[std::string(name)] = std::make_shared<const ExpectedTensor>(std::move(tensor));
}

double max_abs(const std::vector<double>& values) { return greatest_finite(std::span(values), std::identity()); }

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

Expected ask_oracle(const Problem& problem, const Inputs& inputs, const ConstTensorView& dout, const Sample& sample,
                    Workers& workers) {
  Expected expected;
  expected.output_scale = std::max(max_abs(inputs.v), max_abs(inputs.extra_v));
  const auto queries = choose_queries(problem, sample.queries, sample.seed);
  reference::Forward forward = oracle_forward(problem, inputs, queries, workers);
  expected.max_abs_score = forward.max_abs_score;
  expected.queries = std::ssize(queries);
  set_all(by_name(std::move(forward)), rows_to_compare(problem, queries), expected);
  if (!dout.present()) return expected;
  if (!sample.gradients) {
    set_all(by_name(reference::backward(problem, inputs, dout)), std::nullopt, expected);
    return expected;
  }
  const auto gradient_queries = choose_queries(problem, sample.gradients->queries, sample.seed);
  reference::QueryGradients gradients;
  for (const auto& part : in_parts<reference::QueryGradients>(gradient_queries, workers, [&](const auto& some) {
         return reference::backward_queries(problem, inputs, dout, some);
       })) {
    append(gradients.dq, part.dq);
  }
  set_all(by_name(std::move(gradients)), rows_of(gradient_queries), expected);
  return expected;
}

void add_sampled_keys(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Sample& sample,
                      Workers& workers, Expected& expected) {
  const auto add = [&](const std::vector<reference::Key>& keys, bool extra) {
    reference::KeyGradients all;
    for (const auto& part : in_parts<reference::KeyGradients>(
             keys, workers, [&](const auto& some) { return reference::backward_keys(problem, inputs, saved, some); })) {
      append(all.dk, part.dk);
      append(all.dv, part.dv);
    }
    set_all(by_name(std::move(all), extra), rows_of(keys), expected);
  };
  add(choose_keys(problem, sample.gradients->keys, sample.seed), false);
  const auto extra = choose_extra_tokens(problem, sample.gradients->extra_tokens, sample.seed);
  if (!extra.empty()) add(extra, true);
  if (!problem.relative_bias) return;
  const auto offsets = choose_offsets(problem, sample.gradients->offsets, sample.seed);
  if (offsets.empty()) return;
  std::vector<double> drpb;
  for (const auto& part : in_parts<std::vector<double>>(offsets, workers, [&](const auto& some) {
         return reference::backward_bias(problem, inputs, saved, some);
       })) {
    append(drpb, part);
  }
  expected.set("drpb", {rows_of(offsets), std::move(drpb)});
}

Expected ask_split_oracle(const Problem& problem, Pass pass, const TensorSet& tensors, const Sample& sample,
                          Workers& workers) {
  const Inputs inputs = tensors.inputs();
  const auto view = [&](const char* name) -> ConstTensorView {
    const Tensor* tensor = tensors.find(name);
    return tensor == nullptr ? ConstTensorView{} : tensor->view();
  };
  Expected expected;
  const bool of_weights = pass == Pass::weights || pass == Pass::weights_backward;
  expected.output_scale = of_weights ? std::max(max_abs(inputs.k), max_abs(inputs.extra_k))
                                     : std::max(max_abs(inputs.v), max_abs(inputs.extra_v));
  if (is_backward(pass)) {
    if (sample.gradients) return expected;
    expected.queries = problem.batch * problem.tokens() * problem.heads;
    if (of_weights) {
      expected.gradient_scale = max_abs(view("dattn"));
      set_all(by_name(reference::weights_backward(problem, inputs, view("dattn"))), std::nullopt, expected);
    } else {
      set_all(by_name(reference::values_backward(problem, view("attn"), inputs, view("dout"))), std::nullopt, expected);
    }
    return expected;
  }
  const auto queries = choose_queries(problem, sample.queries, sample.seed);
  std::vector<double> output;
  for (const auto& part : in_parts<std::vector<double>>(queries, workers, [&](const auto& some) {
         return of_weights ? reference::weights(problem, inputs, some)
                           : reference::values(problem, view("attn"), inputs, some);
       })) {
    append(output, part);
  }
  expected.queries = std::ssize(queries);
  expected.set(of_weights ? "attn" : "out", {rows_to_compare(problem, queries), std::move(output)});
  return expected;
}

}  // namespace nalab::verification
