// What a row is expected to cost, before anything has run. Rough: for the announcement, the ETA, and the choice between
// verifying all queries and a sample of them.
#pragma once

#include <cstdint>

#include "core/kernels/registry.h"
#include "core/problem.h"
#include "experiments/config/config.h"
#include "experiments/plan/plan.h"

namespace nalab::plan {

/// Seconds that the oracle takes on one thread for some queries (rows of out).
double oracle_seconds(const Problem& problem, int64_t queries);

/// Seconds that the oracle takes for all gradients; it computes them on one thread.
double gradient_oracle_seconds(const Problem& problem);

/// Seconds that the oracle takes on one thread for the gradients of so many queries, keys and extra tokens.
double gradient_sample_seconds(const Problem& problem, int64_t queries, int64_t keys, int64_t extra_tokens);

/// Seconds of one call of a row that has its plans.
double call_seconds(const PlannedRow& row, int threads);

/// Seconds of the warm-ups and samples of a row whose call takes `call` seconds.
double timing_seconds(const config::Timing& timing, double call);

}  // namespace nalab::plan
