// The answers of nalab sim, for people and as JSON.
#pragma once

#include <vector>

#include "cli/sim/request.h"
#include "core/simulator/sweep.h"

namespace nalab::cli {

void print(const SimRequest& request, const simulator::Simulation& simulation);
void print(const SimRequest& request, const std::vector<simulator::SweepPoint>& points);
void print(const SimRequest& request, const std::vector<simulator::Recommendation>& recommendations);

/// Draws speedup against the size of what is varied. Throws Error
/// where gnuplot is missing or fails, or the file cannot be written; then there is no file.
void plot_sweep(const SimRequest& request, const std::vector<simulator::SweepPoint>& points);

}  // namespace nalab::cli
