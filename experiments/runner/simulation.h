// Asks the simulator.
#pragma once

#include "experiments/plan/plan.h"
#include "store/schema.h"

namespace nalab::runner {

/// The simulator's answer, with the published figures.
store::SimulationRow simulate(const plan::Simulation& simulation);

}  // namespace nalab::runner
