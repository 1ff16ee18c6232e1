// The answers of nalab sim, for people and as JSON.
#pragma once

#include <vector>

#include "cli/sim/request.h"
#include "core/simulator/sweep.h"

namespace nalab::cli {

void print(const SimRequest& request, const simulator::Simulation& simulation);
void print(const SimRequest& request, const std::vector<simulator::SweepPoint>& points);
void print(const SimRequest& request, const std::vector<simulator::Recommendation>& recommendations);

/// Draws the speedup of each point. Throws Error if gnuplot is missing or fails, or if the file cannot be written; no
/// file is left behind then.
void plot_sweep(const SimRequest& request, const std::vector<simulator::SweepPoint>& points);

}  // namespace nalab::cli
