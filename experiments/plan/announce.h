// The plan as text, shown before hours are spent on it.
#pragma once

#include <string>

#include "experiments/plan/plan.h"

namespace nalab::plan {

/// Rows, FLOPs, bytes, expected time, and the refusals with their reasons, grouped.
std::string summary(const Plan& plan);

/// One line for each row and simulation.
std::string listing(const Plan& plan);

}  // namespace nalab::plan
