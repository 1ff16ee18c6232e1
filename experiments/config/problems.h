// The problems of a configuration: those listed under `problems`, and the cross products under `grids`; and its
// `simulations`.
#pragma once

#include <vector>

#include "experiments/config/config.h"

namespace nalab::config {

/// One entry of `problems`: a mapping of the keys of ProblemSettings, and `quick` with keys that override them.
ProblemSettings read_problem(const Field& entry, Form form);

/// One entry of `grids`: each key of ProblemSettings takes a list of values (a per-axis value is itself a list);
/// `where` lists the conditions that a combination must meet to be kept; `quick` overrides keys. The last key varies
/// fastest. A combination that meets `where` but is not a valid problem is an error, and so is a grid without any
/// combination.
std::vector<ProblemSettings> read_grid(const Field& entry, Form form);

/// One entry of `simulations`: a mapping of the keys of SimulationSettings. With `rows`, a list of such mappings, it
/// stands for one simulation per row, whose keys override the others.
std::vector<SimulationSettings> read_simulations(const Field& entry);

}  // namespace nalab::config
