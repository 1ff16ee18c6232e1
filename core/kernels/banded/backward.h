// The backward pass of banded, as its row of the registry calls it.
#pragma once

#include "core/kernels/registry.h"

namespace nalab::banded {

void backward(const Plan& plan, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution);

PlanCost backward_cost(const PlanChoice& choice);

}  // namespace nalab::banded
