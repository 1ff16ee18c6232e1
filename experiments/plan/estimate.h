// What a row is expected to cost, before anything has run. Rough: for the announcement, the ETA, and the choice between
// verifying all queries and a sample of them.
#pragma once

#include <cstdint>

#include "core/kernels/registry.h"
#include "core/problem.h"
#include "experiments/config/config.h"
#include "experiments/plan/plan.h"
#include "experiments/verification/sample.h"

namespace nalab::plan {

/// Seconds that the oracle takes on one thread for some queries (rows of out).
double oracle_seconds(const Problem& problem, int64_t queries);

/// Seconds that the oracle takes for all gradients; it computes them on one thread.
double gradient_oracle_seconds(const Problem& problem);

/// Seconds that the oracle takes on one thread for all results of a pass. An operator on weights is taken for the
/// attention that it is half of.
double oracle_pass_seconds(const Problem& problem, Pass pass);

/// Seconds that the oracle takes on one thread for a sample of the gradients.
double gradient_sample_seconds(const Problem& problem, const verification::GradientSample& sample);

/// Seconds of one call of a row that has its plans, all of them together.
double call_seconds(const PlannedRow& row, int threads);

/// Seconds of the warm-ups and samples of a row whose call takes `call` seconds.
double timing_seconds(const config::Timing& timing, double call);

}  // namespace nalab::plan
