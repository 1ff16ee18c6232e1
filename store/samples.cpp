#include "store/samples.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace nalab::store {

double quantile(std::span<const double> samples, double p) {
  std::vector<double> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  const double position = p * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

double median(std::span<const double> samples) { return quantile(samples, 0.5); }

double spread(std::span<const double> samples) {
  return (quantile(samples, 0.75) - quantile(samples, 0.25)) / median(samples);
}

double median_error(std::span<const double> samples) {
  if (samples.size() < 2) return 1;
  // Of n normal samples the median has the standard error sqrt(pi / 2) sigma / sqrt(n), and their interquartile range
  // is 1.349 sigma.
  const double sigma = spread(samples) / 1.349;
  return std::sqrt(std::numbers::pi / 2) * sigma / std::sqrt(static_cast<double>(samples.size()));
}

}  // namespace nalab::store
