// How far results of a model are from those that are right.
#pragma once

#include <string>

#include "experiments/model/model.h"

namespace nalab::model {

/// Of one result: the norm of the difference as a share of the norm of what is expected; infinite if that is 0 and the
/// other is not.
struct Difference {
  std::string name;
  double share = 0;

  /// Whether it is at most so much; a result that is no number is not.
  bool is_within(double bound) const { return share <= bound; }
};

/// The result that differs most. Those that are found may be of more images than those expected: the first ones are
/// compared.
Difference greatest_difference(const Results& found, const Results& expected);

/// The most that results of right variants differ. In float32 sums differ in their order alone, while a bias that is
/// dropped moves logits by 3e-2, and another epsilon of a norm by 6e-5. In bf16 each layer rounds.
double bound_of(const Request& request);

}  // namespace nalab::model
