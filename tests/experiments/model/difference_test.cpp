// How results of models are compared.
#include "experiments/model/difference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace nalab::model {
namespace {

TEST(ModelDifference, IsTheGreatestShareOfTheNorm) {
  const Results expected{{"a", {3, 4}}, {"b", {0.1F, 0}}};
  const Difference difference = greatest_difference({{"a", {3, 4.5F}}, {"b", {0.1F, 0.002F}}}, expected);
  EXPECT_EQ(difference.name, "a");
  EXPECT_NEAR(difference.share, 0.1, 1e-6);
  EXPECT_EQ(greatest_difference({{"a", {3, 4.5F}}, {"b", {0.1F, 0.02F}}}, expected).name, "b");
  EXPECT_EQ(greatest_difference(expected, expected).share, 0);
}

TEST(ModelDifference, ComparesTheFirstImages) {
  EXPECT_EQ(greatest_difference({{"logits", {1, 2, 9, 9}}}, {{"logits", {1, 2}}}).share, 0);
  EXPECT_GT(greatest_difference({{"logits", {1, 3, 9, 9}}}, {{"logits", {1, 2}}}).share, 0.4);
}

TEST(ModelDifference, WhatIsNoNumberIsNeverWithinABound) {
  const Results expected{{"a", {1}}, {"b", {1}}, {"c", {1}}};
  const Difference difference = greatest_difference({{"a", {1}}, {"b", {NAN}}, {"c", {2}}}, expected);
  EXPECT_EQ(difference.name, "b");
  EXPECT_FALSE(difference.is_within(1e9));
  EXPECT_FALSE(greatest_difference({{"a", {1e-9F}}}, {{"a", {0}}}).is_within(1e9)) << "nothing was expected";
  EXPECT_TRUE(greatest_difference({{"a", {0}}}, {{"a", {0}}}).is_within(0));
}

}  // namespace
}  // namespace nalab::model
