#include "experiments/plan/estimate.h"

#include <algorithm>
#include <cmath>

namespace nalab::plan {

namespace {

// The oracle on one thread of a Zen 5 server: rows of 7x7 to 255x255 keys, head_dim 32 to 128.
constexpr double kOracleSecondsPerQuery = 10e-6;
constexpr double kOracleSecondsPerKey = 50e-9;
constexpr double kOracleSecondsPerKeyAndChannel = 0.7e-9;
/// Its backward pass works on five products in place of two, and scatters.
constexpr double kOracleBackward = 3.0;
/// What plain vectorised code reaches per thread; the ETA replaces it by what is measured.
constexpr double kFlopsPerSecondAndThread = 10e9;

}  // namespace

double oracle_seconds(const Problem& problem, int64_t queries) {
  const double channels = static_cast<double>(problem.head_dim) + static_cast<double>(problem.head_dim_v);
  const double per_key = kOracleSecondsPerKey + kOracleSecondsPerKeyAndChannel * channels;
  return static_cast<double>(queries) *
         (kOracleSecondsPerQuery + static_cast<double>(problem.keys_per_query()) * per_key);
}

double gradient_oracle_seconds(const Problem& problem) {
  return kOracleBackward * oracle_seconds(problem, problem.batch * problem.tokens() * problem.heads);
}

double call_seconds(const Variant& variant, const Problem& problem, config::RowPass pass, int threads) {
  const bool both = pass == config::RowPass::forward_backward;
  if (variant.name == "reference") {
    const double forward = oracle_seconds(problem, problem.batch * problem.tokens() * problem.heads);
    return forward + (both ? gradient_oracle_seconds(problem) : 0.0);
  }
  double flops = static_cast<double>(variant.executed_flops(problem, Pass::forward));
  if (both) flops += static_cast<double>(variant.executed_flops(problem, Pass::backward));
  return flops / (kFlopsPerSecondAndThread * threads);
}

double timing_seconds(const config::Timing& timing, double call) {
  const double least = std::max(call * static_cast<double>(timing.min_samples), timing.min_seconds);
  const double most = std::min(call * static_cast<double>(timing.max_samples), timing.max_seconds);
  return call * static_cast<double>(timing.warmups) + std::max(call, std::min(least, most));
}

}  // namespace nalab::plan
