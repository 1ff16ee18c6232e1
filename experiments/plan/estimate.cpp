#include "experiments/plan/estimate.h"

#include <algorithm>
#include <cmath>

namespace nalab::plan {

namespace {

// The oracle on one thread of a Zen 5 server, fitted to windows of 1 to 63 x 63 keys on 256 x 256 tokens, head_dim 32
// and 128. For each query it tests every coordinate of every axis, then computes with the keys that it found.
constexpr double kOracleSecondsPerCoordinate = 15e-9;
constexpr double kOracleSecondsPerKey = 50e-9;
constexpr double kOracleSecondsPerKeyAndChannel = 0.6e-9;
/// Its backward pass computes five products instead of two, and scatters.
constexpr double kOracleBackward = 3.0;

/// Seconds to find `tokens` tokens for a row and to compute with them.
double row_seconds(const Problem& problem, int64_t tokens) {
  int64_t coordinates = 0;
  for (const Axis& axis : problem.axes) coordinates += axis.extent;
  const double channels = static_cast<double>(problem.head_dim) + static_cast<double>(problem.head_dim_v);
  const double per_token = kOracleSecondsPerKey + kOracleSecondsPerKeyAndChannel * channels;
  return static_cast<double>(coordinates) * kOracleSecondsPerCoordinate + static_cast<double>(tokens) * per_token;
}

}  // namespace

double oracle_seconds(const Problem& problem, int64_t queries) {
  return static_cast<double>(queries) * row_seconds(problem, problem.keys_per_query());
}

double gradient_oracle_seconds(const Problem& problem) {
  return kOracleBackward * oracle_seconds(problem, problem.batch * problem.tokens() * problem.heads);
}

double oracle_pass_seconds(const Problem& problem, Pass pass) {
  if (is_backward(pass)) return gradient_oracle_seconds(problem);
  return oracle_seconds(problem, problem.batch * problem.tokens() * problem.heads);
}

double gradient_sample_seconds(const Problem& problem, const verification::GradientSample& sample) {
  const auto seconds = [&](int64_t rows, int64_t tokens) {
    return static_cast<double>(rows) * row_seconds(problem, tokens);
  };
  // A key is attended to by about as many queries of each head as a query attends to keys; of an entry of the bias each
  // query has one key.
  const int64_t heads_per_kv = problem.heads / problem.heads_kv;
  return kOracleBackward *
         (oracle_seconds(problem, sample.queries) + seconds(sample.keys, problem.keys_per_query() * heads_per_kv) +
          seconds(sample.extra_tokens, problem.tokens() * heads_per_kv) +
          seconds(sample.offsets, problem.tokens() * problem.batch));
}

double call_seconds(const PlannedRow& row, int threads) {
  if (row.variant->is_oracle) {
    double seconds = 0;
    for (const nalab::Plan& plan : row.plans) seconds += oracle_pass_seconds(row.problem, plan.pass());
    return seconds;
  }
  if (row.variant->device != Device::cpu) threads = 1;
  return static_cast<double>(row.executed_flops) / (row.variant->expected_flops_per_second * threads);
}

double timing_seconds(const config::Timing& timing, double call) {
  const double least = std::max(call * static_cast<double>(timing.min_samples), timing.min_seconds);
  const double most = std::min(call * static_cast<double>(timing.max_samples), timing.max_seconds);
  return call * static_cast<double>(timing.warmups) + std::max(call, std::min(least, most));
}

}  // namespace nalab::plan
