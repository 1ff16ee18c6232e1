#include "store/samples.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace nalab::store {
namespace {

TEST(Samples, MedianOfOddAndEvenCountsInAnyOrder) {
  EXPECT_DOUBLE_EQ(median(std::array{7.0}), 7.0);
  EXPECT_DOUBLE_EQ(median(std::array{3.0, 1.0}), 2.0);
  EXPECT_DOUBLE_EQ(median(std::array{9.0, 1.0, 2.0}), 2.0);
  EXPECT_DOUBLE_EQ(median(std::array{4.0, 1.0, 3.0, 100.0}), 3.5);
}

TEST(Samples, QuantilesAreLinearBetweenSamples) {
  const std::array samples{40.0, 10.0, 30.0, 20.0};
  EXPECT_DOUBLE_EQ(quantile(samples, 0), 10);
  EXPECT_DOUBLE_EQ(quantile(samples, 0.25), 17.5);
  EXPECT_DOUBLE_EQ(quantile(samples, 0.75), 32.5);
  EXPECT_DOUBLE_EQ(quantile(samples, 1), 40);
}

TEST(Samples, SpreadIsRelativeAndIgnoresAnOutlier) {
  EXPECT_DOUBLE_EQ(spread(std::array{10.0, 20.0, 30.0, 40.0}), 15.0 / 25.0);
  EXPECT_DOUBLE_EQ(spread(std::array{1.0, 1.0, 1.0, 1.0, 1000.0}), 0.0);
}

TEST(Samples, ErrorOfTheMedianFallsWithTheirNumber) {
  EXPECT_DOUBLE_EQ(median_error(std::array{2.0, 2.0, 2.0}), 0);
  // sqrt(pi / 2) / 1.349 = 0.929: of the interquartile range over the median and the root of the number.
  EXPECT_NEAR(median_error(std::array{8.0, 9.0, 10.0, 11.0, 12.0}), 0.929 * 0.2 / std::sqrt(5), 1e-4);
  EXPECT_NEAR(median_error(std::array{9.0, 11.0}), 0.929 * 0.1 / std::sqrt(2), 1e-4);
  EXPECT_EQ(median_error(std::array{5.0}), 1) << "nothing is known";
}

}  // namespace
}  // namespace nalab::store
