// Comparing the results of a problem with what is expected of them, tensor by tensor.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/compare.h"
#include "core/tensors.h"
#include "experiments/verification/oracle.h"

namespace nalab::verification {

struct TensorComparison {
  std::string tensor;
  Comparison comparison;
};

/// The error that is greatest relative to its bound, and whose it is.
struct WorstError {
  std::string_view tensor;
  double error = 0, bound = 0;
};

/// Outcome of the comparison of a problem's results.
struct VerificationResult {
  std::vector<TensorComparison> tensors;  ///< in the order of the list
  std::vector<std::string> not_compared;  ///< results of which nothing was expected
  int64_t verified_queries = 0;           ///< rows of out that were compared

  bool ok() const;
  /// Which tensors do not agree, and how; empty if all agree.
  std::string failure() const;
  WorstError worst_frobenius() const;
  WorstError worst_max() const;
};

/// The elements of a computed result, as float: of the given rows, or all.
using ComputedTensor =
    std::function<std::vector<float>(const TensorInfo& info, const std::optional<std::vector<TensorRow>>& rows)>;

/// Compares the results of a pass; with those of the backward pass also out and lse. `factor` widens the bounds of the
/// contract.
VerificationResult compare_tensors(const Problem& problem, Pass pass, const Expected& expected,
                                   const ComputedTensor& computed, double factor = 1);

}  // namespace nalab::verification
