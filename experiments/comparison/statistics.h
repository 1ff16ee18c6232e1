// How far apart two sets of samples are, and whether there are enough samples to tell.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace nalab::comparison {

struct Interval {
  double low = 0, high = 0;
};

/// An interval that holds the median of what the samples were drawn from with a probability of 95 % at least: two order
/// statistics, the k-th smallest and the k-th largest sample with the greatest k for which that is true. How many
/// samples lie below the median is binomial whatever their distribution, so nothing is assumed except that samples
/// are independent: times have long tails to one side and are drawn in tens, where a bootstrap of the median knows only
/// a few values. nullopt for fewer than kMinSamples: then even the smallest and the largest do not suffice.
std::optional<Interval> median_interval(std::vector<double> samples);

/// 1 - 2^(1 - n) is the probability that the median lies between the smallest and the largest of n samples.
inline constexpr int64_t kMinSamples = 6;

struct Ratio {
  double value = 0;
  std::optional<Interval> interval;  ///< unset if there are too few samples on either side
};

/// median(b) / median(a), with a 95 % interval. On the scale of logarithms the ratio is a difference of two medians
/// whose errors are independent, so the distances of the medians to the ends of their intervals add up as squares (the
/// method of variance estimates recovery, Donner and Zou 2012). Dividing the ends farthest apart would be safe as well,
/// but 1.6 times as wide. Requires positive samples, one at least of each.
Ratio ratio_of_medians(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace nalab::comparison
