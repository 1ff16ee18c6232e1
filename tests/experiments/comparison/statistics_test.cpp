#include "experiments/comparison/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace nalab::comparison {
namespace {

/// first, first + 1, ...
std::vector<double> run_of(int64_t count, double first = 1) {
  std::vector<double> samples(static_cast<std::size_t>(count));
  std::iota(samples.begin(), samples.end(), first);
  std::ranges::reverse(samples);
  return samples;
}

TEST(MedianInterval, TakesAsManySamplesAsItsProbability) {
  for (int64_t n = 1; n < kMinSamples; ++n) EXPECT_FALSE(median_interval(run_of(n))) << n;
  EXPECT_TRUE(median_interval(run_of(kMinSamples)));
}

/// Ranks by exact counting: of the 2^n ways for n samples to lie on either side of the median, those with fewer than k
/// below it.
TEST(MedianInterval, HasTheRanksOfTheBinomialDistribution) {
  for (int64_t n = kMinSamples; n <= 40; ++n) {
    double outside = 0, binomial = 1;
    int64_t k = 0;
    for (;; ++k) {
      const double more = outside + binomial / std::pow(2.0, static_cast<double>(n));
      if (1 - 2 * more < 0.95) break;
      outside = more;
      binomial = binomial * static_cast<double>(n - k) / static_cast<double>(k + 1);
    }
    const auto interval = median_interval(run_of(n));
    ASSERT_TRUE(interval);
    EXPECT_EQ(interval->low, static_cast<double>(k)) << n;
    EXPECT_EQ(interval->high, static_cast<double>(n + 1 - k)) << n;
  }
}

TEST(MedianInterval, HoldsForManySamples) {
  const auto interval = median_interval(run_of(10'000));
  ASSERT_TRUE(interval);
  EXPECT_NEAR(interval->low, 5000 - 1.96 * 50, 2);  // standard deviations of the binomial
  EXPECT_EQ(interval->low + interval->high, 10'001);
}

TEST(RatioOfMedians, ErrorsAddUpAsSquaresOfLogarithms) {
  const Ratio ratio = ratio_of_medians({1, 2, 3, 6, 9, 12, 24}, {5, 10, 15, 20, 30, 40, 60});
  EXPECT_EQ(ratio.value, 20.0 / 6);
  ASSERT_TRUE(ratio.interval);
  EXPECT_DOUBLE_EQ(ratio.interval->low, 20.0 / 6 * std::exp(-std::log(4) * std::sqrt(2.0)));
  EXPECT_DOUBLE_EQ(ratio.interval->high, 20.0 / 6 * std::exp(std::hypot(std::log(3), std::log(6))));
}

TEST(RatioOfMedians, OfASideWithoutScatterHasTheIntervalOfTheOther) {
  const std::vector<double> b = run_of(9);
  const Ratio ratio = ratio_of_medians(std::vector<double>(9, 2.0), b);
  EXPECT_DOUBLE_EQ(ratio.interval->low, median_interval(b)->low / 2);
  EXPECT_DOUBLE_EQ(ratio.interval->high, median_interval(b)->high / 2);
}

TEST(RatioOfMedians, HasNoIntervalWithTooFewSamplesOfEither) {
  EXPECT_FALSE(ratio_of_medians(run_of(5), run_of(100)).interval);
  EXPECT_FALSE(ratio_of_medians(run_of(100), run_of(5)).interval);
  EXPECT_EQ(ratio_of_medians({2}, {3}).value, 1.5);
}

/// Times with a long tail: the true ratio is inside as often as promised.
TEST(RatioOfMedians, CoversTheTrueRatio) {
  std::mt19937_64 random(11);
  std::lognormal_distribution<double> noise(0, 0.5);
  for (const int64_t n : {6, 12, 30}) {
    int inside = 0;
    constexpr int kRounds = 2000;
    for (int round = 0; round < kRounds; ++round) {
      std::vector<double> a, b;
      for (int64_t i = 0; i < n; ++i) {
        a.push_back(1 + noise(random));
        b.push_back(1.25 * (1 + noise(random)));
      }
      const Interval interval = ratio_of_medians(a, b).interval.value();
      if (interval.low <= 1.25 && 1.25 <= interval.high) ++inside;
    }
    EXPECT_GE(inside, 0.95 * kRounds) << n;
    EXPECT_LT(inside, 0.999 * kRounds) << "an interval that always holds tells nothing";
  }
}

}  // namespace
}  // namespace nalab::comparison
