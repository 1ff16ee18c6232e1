#include "cli/compute_case.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <regex>

#include "core/error.h"
#include "core/kernels/reference.h"

namespace nalab::cli {

namespace {

Tensor rounded(const std::vector<float>& values, ElementType type, const TokenShape& shape) {
  Tensor tensor(type, shape);
  with_element_type(type, [&](auto element) {
    using T = decltype(element);
    std::transform(values.begin(), values.end(), tensor.data<T>(), from_float<T>);
  });
  return tensor;
}

template <class T>
double max_abs(const std::vector<T>& values) {
  double greatest = 0;
  for (const T value : values) {
    if (std::isfinite(value)) greatest = std::max(greatest, static_cast<double>(std::abs(value)));
  }
  return greatest;
}

bool is_gradient(std::string_view tensor) { return tensor.starts_with('d'); }

/// Adds an uninitialised dataset to the outputs and returns a view of it.
TensorView add(store::CaseOutputs& outputs, const Problem& problem, const char* name, const TokenShape& shape) {
  auto& dataset = outputs.datasets[name];
  dataset.shape = store::tensor_extents(problem, name);
  dataset.data.resize(static_cast<std::size_t>(shape.elements()));
  return contiguous_view(dataset.data.data(), shape);
}

}  // namespace

TypedCase::TypedCase(const store::Case& c, ElementType type) : problem_(c.problem) {
  problem_.type = type;
  q_ = rounded(c.q, type, q_shape(problem_));
  k_ = rounded(c.k, type, k_shape(problem_));
  v_ = rounded(c.v, type, v_shape(problem_));
  max_abs_v_ = max_abs(c.v);
  if (problem_.extra_tokens > 0) {
    extra_k_ = rounded(*c.extra_k, type, extra_k_shape(problem_));
    extra_v_ = rounded(*c.extra_v, type, extra_v_shape(problem_));
    max_abs_v_ = std::max(max_abs_v_, max_abs(*c.extra_v));
  }
  if (c.dout) dout_ = rounded(*c.dout, type, out_shape(problem_));
}

Inputs TypedCase::inputs() const {
  Inputs inputs{q_.view(), k_.view(), v_.view(), {}, {}};
  if (problem_.extra_tokens > 0) {
    inputs.extra_k = extra_k_.view();
    inputs.extra_v = extra_v_.view();
  }
  return inputs;
}

std::optional<std::string> why_not(const Variant& variant, const Problem& problem, Pass pass) {
  const auto reason = variant.supports(problem, Pass::forward);
  return reason || pass == Pass::forward ? reason : variant.supports(problem, Pass::backward);
}

store::CaseOutputs compute(const Variant& variant, const std::string& name, const TypedCase& c, bool backward,
                           Workers& workers, Isa isa) {
  const Problem& p = c.problem();
  store::CaseOutputs results{name, {}};
  const Outputs outputs{add(results, p, "out", out_shape(p)), add(results, p, "lse", lse_shape(p))};
  attention_forward(variant.name, p, c.inputs(), outputs, workers, isa);
  if (!backward) return results;

  Gradients gradients{
      add(results, p, "dq", q_shape(p)), add(results, p, "dk", k_shape(p)), add(results, p, "dv", v_shape(p)), {}, {}};
  if (p.extra_tokens > 0) {
    gradients.dextra_k = add(results, p, "dextra_k", extra_k_shape(p));
    gradients.dextra_v = add(results, p, "dextra_v", extra_v_shape(p));
  }
  attention_backward(variant.name, p, c.inputs(), {outputs.out, outputs.lse, c.dout()}, gradients, workers, isa);
  return results;
}

Oracle ask_oracle(const TypedCase& c, bool backward) {
  reference::Forward forward = reference::forward(c.problem(), c.inputs());
  Oracle oracle;
  oracle.max_abs_score = forward.max_abs_score;
  oracle.tensors["out"] = std::move(forward.out);
  oracle.tensors["lse"] = std::move(forward.lse);
  if (!backward) return oracle;
  reference::Backward gradients = reference::backward(c.problem(), c.inputs(), c.dout());
  oracle.tensors["dq"] = std::move(gradients.dq);
  oracle.tensors["dk"] = std::move(gradients.dk);
  oracle.tensors["dv"] = std::move(gradients.dv);
  oracle.tensors["dextra_k"] = std::move(gradients.dextra_k);
  oracle.tensors["dextra_v"] = std::move(gradients.dextra_v);
  return oracle;
}

std::vector<TensorComparison> compare_tensors(const store::CaseOutputs& computed, const NamedTensors& reference,
                                              const TypedCase& c, double max_abs_score, double factor) {
  std::vector<TensorComparison> comparisons;
  for (const auto& [name, dataset] : computed.datasets) {
    const bool gradient = is_gradient(name);
    const Tolerance bound =
        tolerance(c.problem().type, gradient ? TensorKind::gradient : TensorKind::output, max_abs_score);
    comparisons.push_back(
        {name, compare(dataset.data, reference.at(name), {factor * bound.frobenius, factor * bound.max_abs},
                       gradient ? max_abs(reference.at("dv")) : c.max_abs_v())});
  }
  return comparisons;
}

std::vector<std::string> matching(const std::vector<std::string>& names, const std::string& regex,
                                  const std::string& path) {
  std::vector<std::string> found;
  try {
    const std::regex expression(regex);
    std::copy_if(names.begin(), names.end(), std::back_inserter(found),
                 [&](const std::string& name) { return std::regex_search(name, expression); });
  } catch (const std::regex_error&) {
    throw Error("--cases '" + regex + "' is not a regular expression");
  }
  if (names.empty()) throw Error(path + ": contains nothing to compute");
  if (found.empty()) throw Error(path + ": --cases '" + regex + "' matches none of " + std::to_string(names.size()));
  return found;
}

}  // namespace nalab::cli
