#include "core/kernels/reference/term_sizes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace nalab::reference {

namespace {

/// The absolute values of given tensors, as float32: their sizes need no more.
class AbsoluteValues {
 public:
  explicit AbsoluteValues(const TensorSet& given) {
    for (const auto& [info, tensor] : given.entries()) {
      std::vector<float> values = to_floats(tensor);
      for (float& x : values) x = std::abs(x);
      add(info.name, info.shape, values);
    }
  }

  template <class Number>
  void add(std::string_view name, const TokenShape& shape, const std::vector<Number>& values) {
    Tensor tensor(ElementType::f32, shape);
    std::ranges::transform(values, tensor.data<float>(), [](Number x) { return static_cast<float>(x); });
    tensors_.insert_or_assign(name, std::move(tensor));
  }

  ConstTensorView operator[](std::string_view name) const { return tensors_.at(name).view(); }
  Inputs inputs(const Problem& problem) const {
    Inputs inputs;
    visit_tensors(problem, inputs, [&](const TensorInfo& info, ConstTensorView& view) {
      if (const auto found = tensors_.find(info.name); found != tensors_.end()) view = found->second.view();
    });
    return inputs;
  }

 private:
  std::map<std::string_view, Tensor> tensors_;
};

/// Calls visit(row) for the weights of each query.
template <class Visit>
void for_each_row(std::vector<double>& weights, const Problem& problem, const Visit& visit) {
  const auto slots = static_cast<std::size_t>(attn_shape(problem).dim);
  for (std::size_t i = 0; i < weights.size(); i += slots) visit(std::span(weights).subspan(i, slots), i);
}

/// A weight below the smallest normal float32, 2^-126, may become 0. Bounds are relative, and at least 2^-20: this is
/// the weight of which the loss is such a part.
constexpr double kSmallestWeight = 0x1p-106;

/// Scores become weights; slots of -infinity weigh nothing.
void softmax(std::vector<double>& scores, const Problem& problem) {
  for_each_row(scores, problem, [](std::span<double> row, std::size_t) {
    const double max = std::ranges::max(row);
    double sum = 0;
    for (double& x : row) sum += x = std::exp(x - max);
    for (double& x : row) x /= sum;
  });
}

/// The greatest score of each query that is finite, and the logarithm of their number.
std::vector<double> lse_sizes(std::vector<double> scores, const Problem& problem) {
  std::vector<double> sizes;
  for_each_row(scores, problem, [&](std::span<const double> row, std::size_t) {
    double size = 0;
    for (const double x : row) size = std::isfinite(x) ? std::max(size, x) : size;
    sizes.push_back(size + std::log(static_cast<double>(row.size())));
  });
  return sizes;
}

double greatest_finite(const std::vector<double>& values) {
  double greatest = 0;
  for (const double x : values) greatest = std::isfinite(x) ? std::max(greatest, x) : greatest;
  return greatest;
}

TermSizes of_attention(Problem problem, Pass pass, const TensorSet& given) {
  problem.scale = problem.effective_scale();
  std::vector<double> p = weights(problem, given.inputs());
  softmax(p, problem);
  for (double& weight : p) weight += kSmallestWeight;
  problem.scale = std::abs(*problem.scale);
  AbsoluteValues sizes(given);
  const TokenShape slots = attn_shape(problem);
  sizes.add("attn", slots, p);
  const Inputs inputs = sizes.inputs(problem);
  const std::vector<double> scores = weights(problem, inputs);
  TermSizes found;
  found.greatest_score = greatest_finite(scores);
  found.of["lse"] = lse_sizes(scores, problem);
  found.of["out"] = values(problem, sizes["attn"], inputs);
  if (pass == Pass::forward) return found;
  ValuesBackward of_values = values_backward(problem, sizes["attn"], inputs, sizes["dout"]);
  std::vector<double>& ds = of_values.dattn;
  for_each_row(ds, problem, [&](std::span<double> row, std::size_t first) {
    double delta = 0;
    for (std::size_t i = 0; i < row.size(); ++i) delta += p[first + i] * row[i];
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = p[first + i] * (row[i] + delta);
  });
  sizes.add("dattn", slots, ds);
  found.of.merge(by_name(weights_backward(problem, inputs, sizes["dattn"])));
  found.of.merge(by_name(std::move(of_values)));
  return found;
}

}  // namespace

TermSizes term_sizes(const Problem& given_problem, Pass pass, const TensorSet& given) {
  if (!is_split(pass)) return of_attention(given_problem, pass, given);
  Problem problem = given_problem;
  problem.scale = std::abs(problem.weights_scale());
  const AbsoluteValues sizes(given);
  const Inputs inputs = sizes.inputs(problem);
  TermSizes found;
  switch (pass) {
    case Pass::weights:
      found.of["attn"] = weights(problem, inputs);
      break;
    case Pass::weights_backward:
      found.of = by_name(weights_backward(problem, inputs, sizes["dattn"]));
      break;
    case Pass::values:
      found.of["out"] = values(problem, sizes["attn"], inputs);
      break;
    default:
      found.of = by_name(values_backward(problem, sizes["attn"], inputs, sizes["dout"]));
  }
  return found;
}

}  // namespace nalab::reference
