// The answers of nalab sim, for people and as JSON.
#pragma once

#include <vector>

#include "cli/sim/request.h"
#include "core/simulator/sweep.h"
#include "store/new_file.h"

namespace nalab::cli {

void print(const SimRequest& request, const simulator::Simulation& simulation);
void print(const SimRequest& request, const std::vector<simulator::SweepPoint>& points);
void print(const SimRequest& request, const std::vector<simulator::Recommendation>& recommendations);

/// Draws the speedup of each point into the file that the request names, as PNG or SVG by the ending of its name.
/// Throws Error if gnuplot is missing or fails, or if the file cannot be written.
void plot_sweep(const SimRequest& request, const std::vector<simulator::SweepPoint>& points, store::NewFile& file);

}  // namespace nalab::cli
