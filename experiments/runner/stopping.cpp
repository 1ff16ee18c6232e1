#include "experiments/runner/stopping.h"

#include <iterator>
#include <numeric>

#include "store/samples.h"

namespace nalab::runner {

namespace {

double sum(std::span<const double> samples) { return std::accumulate(samples.begin(), samples.end(), 0.0); }

}  // namespace

bool are_enough(std::span<const double> samples, const config::Timing& timing) {
  return std::ssize(samples) >= timing.min_samples && sum(samples) >= timing.min_seconds;
}

std::string limit_reached(std::span<const double> samples, const config::Timing& timing) {
  if (std::ssize(samples) >= timing.max_samples) return "count";
  return sum(samples) >= timing.max_seconds ? "time" : "";
}

std::string stopped_by(std::span<const double> samples, const config::Timing& timing) {
  const bool done = are_enough(samples, timing) && store::median_error(samples) <= timing.max_noise;
  return done ? "noise" : limit_reached(samples, timing);
}

}  // namespace nalab::runner
