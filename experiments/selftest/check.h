// Making the calls of a trial, and saying what is wrong with them.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/context.h"
#include "core/plan.h"
#include "experiments/selftest/subject.h"
#include "experiments/selftest/trial.h"

namespace nalab::selftest {

/// The plans of a trial's calls: of the forward pass before that of its backward pass. in_a_row: whether the tokens of
/// all tensors lie at one distance from each other. Throws Error if there is no such plan.
std::vector<Plan> plans_of(const Trial& trial, bool in_a_row);

class Checker {
 public:
  /// Makes the calls, with every number of threads, and compares.
  Agreement check(const Trial& trial);

 private:
  Context& context_of(int threads) { return contexts_.try_emplace(threads, threads).first->second; }

  std::optional<Subject> subject_;  ///< of the last trial: the next one is often about the same
  std::map<int, Context> contexts_;
};

}  // namespace nalab::selftest
