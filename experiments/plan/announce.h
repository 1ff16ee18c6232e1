// The plan as text, shown before hours are spent on it.
#pragma once

#include <string>

#include "experiments/plan/plan.h"

namespace nalab::plan {

/// Rows, FLOPs, bytes, expected time, and the refusals with their reasons, grouped. The time includes `peak_seconds`,
/// the time to measure the peaks of the machine first.
std::string summary(const RunPlan& plan, double peak_seconds);

/// One line for each row and simulation.
std::string listing(const RunPlan& plan);

}  // namespace nalab::plan
