// Drawing trials at random, over all that a call may be.
#pragma once

#include <cstdint>
#include <vector>

#include "experiments/selftest/trial.h"

namespace nalab::selftest {

/// The trials of one problem: one of each variant that computes it, each in its own way. The same for the same seed and
/// number, on CPUs with the same instruction sets.
std::vector<Trial> draw(uint64_t seed, uint64_t number);

}  // namespace nalab::selftest
