// Asks the simulator.
#pragma once

#include "experiments/plan/plan.h"
#include "store/schema.h"

namespace nalab::runner {

/// What the simulator says, beside the figures published for it.
store::SimulationRow simulate(const plan::Simulation& simulation);

}  // namespace nalab::runner
