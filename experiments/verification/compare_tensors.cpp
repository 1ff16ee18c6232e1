#include "experiments/verification/compare_tensors.h"

#include <algorithm>

namespace nalab::verification {

namespace {

WorstError worst(const std::vector<TensorComparison>& tensors, double Comparison::*error, double Tolerance::*bound) {
  WorstError worst;
  for (const auto& [tensor, comparison] : tensors) {
    const WorstError other{tensor, comparison.*error, comparison.bound.*bound};
    if (worst.bound == 0 || other.error * worst.bound > worst.error * other.bound) worst = other;
  }
  return worst;
}

}  // namespace

bool VerificationResult::ok() const {
  return std::ranges::all_of(tensors, [](const TensorComparison& t) { return t.comparison.ok; });
}

std::string VerificationResult::failure() const {
  std::string text;
  for (const auto& [tensor, comparison] : tensors) {
    if (!comparison.ok) text += (text.empty() ? "" : "; ") + tensor + ": " + comparison.to_string();
  }
  return text;
}

WorstError VerificationResult::worst_frobenius() const {
  return worst(tensors, &Comparison::frobenius, &Tolerance::frobenius);
}

WorstError VerificationResult::worst_max() const { return worst(tensors, &Comparison::max_abs, &Tolerance::max_abs); }

VerificationResult compare_tensors(const Problem& problem, Pass pass, const Expected& expected,
                                   const ComputedTensor& computed, double factor) {
  VerificationResult result;
  result.verified_queries = expected.queries;
  for (const TensorInfo& info : tensors_of(problem, pass)) {
    if (!info.is_result()) continue;
    const auto found = expected.tensors.find(info.name);
    if (found == expected.tensors.end()) {
      result.not_compared.emplace_back(info.name);
      continue;
    }
    const ExpectedTensor& tensor = *found->second;
    const bool gradient = info.role == Role::gradient;
    const Tolerance bound =
        tolerance(problem.type, gradient ? TensorKind::gradient : TensorKind::output, expected.max_abs_score);
    result.tensors.push_back(
        {std::string(info.name),
         compare(computed(info, tensor.rows), tensor.values, {factor * bound.frobenius, factor * bound.max_abs},
                 gradient ? expected.gradient_scale : expected.output_scale)});
  }
  return result;
}

}  // namespace nalab::verification
