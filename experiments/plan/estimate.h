// What a row is expected to cost, before anything has run. Rough: for the announcement, the ETA, and the choice between
// verifying all queries and a sample of them.
#pragma once

#include <cstdint>

#include "core/kernels/registry.h"
#include "core/problem.h"
#include "experiments/config/config.h"

namespace nalab::plan {

/// Seconds that the oracle takes on one thread for some queries (rows of out).
double oracle_seconds(const Problem& problem, int64_t queries);

/// Seconds that the oracle takes for all gradients; it computes them on one thread.
double gradient_oracle_seconds(const Problem& problem);

/// Seconds that the oracle takes on one thread for the gradients of so many rows of dq, of dk and dv, and of dextra_k
/// and dextra_v.
double gradient_sample_seconds(const Problem& problem, int64_t queries, int64_t keys, int64_t extra_tokens);

/// Seconds of one call of a variant.
double call_seconds(const Variant& variant, const Problem& problem, config::RowPass pass, int threads);

/// Seconds of the warm-ups and samples of a row whose call takes `call` seconds.
double timing_seconds(const config::Timing& timing, double call);

}  // namespace nalab::plan
