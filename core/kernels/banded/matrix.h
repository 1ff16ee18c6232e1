// The forward pass of banded on a matrix unit, as its row of the registry calls it.
#pragma once

#include "core/kernels/registry.h"

namespace nalab::banded {

void matrix_forward(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution);

PlanCost matrix_cost(const PlanChoice& choice);

}  // namespace nalab::banded
