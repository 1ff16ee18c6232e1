#include "store/samples.h"

#include <gtest/gtest.h>

#include <array>

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

}  // namespace
}  // namespace nalab::store
