#include "experiments/comparison/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "store/samples.h"

namespace nalab::comparison {

namespace {

constexpr double kCoverage = 0.95;

/// The greatest k for which the k-th smallest and the k-th largest of n samples enclose the median with probability
/// kCoverage; 0 if none does.
int64_t enclosing_rank(int64_t n) {
  int64_t k = 0;
  double tail = 0;  // probability that at most k samples lie below the median
  for (; 2 * k < n; ++k) {
    tail += std::exp(std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0) - n * std::log(2.0));
    if (1 - 2 * tail < kCoverage) break;
  }
  return k;
}

}  // namespace

std::optional<Interval> median_interval(std::vector<double> samples) {
  const int64_t k = enclosing_rank(std::ssize(samples));
  if (k == 0) return std::nullopt;
  std::ranges::sort(samples);
  return Interval{samples[static_cast<std::size_t>(k - 1)], samples[samples.size() - static_cast<std::size_t>(k)]};
}

Ratio ratio_of_medians(const std::vector<double>& a, const std::vector<double>& b) {
  const double median_a = store::median(a), median_b = store::median(b);
  Ratio ratio{median_b / median_a, std::nullopt};
  const auto of_a = median_interval(a), of_b = median_interval(b);
  if (!of_a || !of_b) return ratio;
  const double down = std::hypot(std::log(median_b / of_b->low), std::log(of_a->high / median_a));
  const double up = std::hypot(std::log(of_b->high / median_b), std::log(median_a / of_a->low));
  ratio.interval = {ratio.value * std::exp(-down), ratio.value * std::exp(up)};
  return ratio;
}

}  // namespace nalab::comparison
