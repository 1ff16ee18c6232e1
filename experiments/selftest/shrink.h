// Making a failing trial simpler for as long as it fails.
#pragma once

#include <functional>

#include "experiments/selftest/trial.h"

namespace nalab::selftest {

/// The simplest trial found for which fails(trial) holds, as it does for the given one. Each step takes something away:
/// tokens, heads, channels, strides, threads, ways to run. Ends early once more() does not hold.
Trial shrink(Trial trial, const std::function<bool(const Trial&)>& fails, const std::function<bool()>& more);

}  // namespace nalab::selftest
