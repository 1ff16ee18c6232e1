// What trials have in common: a problem, the tensors that its calls read, and what the oracle makes of them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/kernels/reference/term_sizes.h"
#include "core/plan.h"
#include "core/tensor_set.h"
#include "experiments/selftest/trial.h"
#include "experiments/verification/compare_tensors.h"

namespace nalab::selftest {

/// How far a result is from what is expected.
struct Agreement {
  std::string fault;  ///< empty if it agrees
  double worst = 0;   ///< the greatest error as a part of its bound
};

class Subject {
 public:
  /// Fills the tensors, and asks the oracle.
  explicit Subject(const Trial& trial);

  /// Whether it is what a trial is about.
  bool is_of(const Trial& trial) const;

  const TensorSet& given() const { return given_; }

  /// Compares the results of a call with the oracle's: within the contract's bounds, or within what these allow for the
  /// size of the terms that a result is the sum of (a sum of few may be small by chance).
  /// A plan's arithmetic says what its sums of subnormal numbers are.
  Agreement judge(const verification::ComputedTensor& computed, const Plan& plan, bool results_are_f32);

 private:
  bool agrees_for_its_terms(const TensorInfo& info, const std::vector<float>& values, ElementType stored,
                            bool sums_are_normal);

  Trial trial_;
  TensorSet given_;
  verification::Expected expected_;
  std::optional<reference::TermSizes> sizes_;
};

}  // namespace nalab::selftest
