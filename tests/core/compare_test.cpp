#include "core/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace nalab {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Tolerance kLoose{1, 1};
constexpr Tolerance kTight{1e-6, 1e-6};

Comparison compare_doubles(const std::vector<double>& values, const std::vector<double>& reference,
                           Tolerance bound = kTight, double value_scale = 1) {
  return compare(std::span(values), std::span(reference), bound, value_scale);
}

TEST(Compare, BothErrorsByHand) {
  // Differences 0.3 and 0.4, references of norm 5 and greatest 4.
  const Comparison c = compare_doubles({3.3, 4.4}, {3, 4});
  EXPECT_NEAR(c.frobenius, 0.5 / 5, 1e-15);
  EXPECT_NEAR(c.max_abs, 0.4 / 4, 1e-15);
  EXPECT_EQ(c.worst_index, 1);
  EXPECT_EQ(c.worst_value, 4.4);
  EXPECT_EQ(c.worst_reference, 4);
}

TEST(Compare, BothBoundsMustHold) {
  const std::vector<double> values{3.3, 4.4};
  EXPECT_TRUE(compare_doubles(values, {3, 4}, {0.1001, 0.1001}).ok);
  EXPECT_FALSE(compare_doubles(values, {3, 4}, {0.0999, 0.1001}).ok);
  EXPECT_FALSE(compare_doubles(values, {3, 4}, {0.1001, 0.0999}).ok);
  EXPECT_EQ(compare_doubles(values, {3, 4}, {0.25, 0.5}).bound.frobenius, 0.25);
  EXPECT_EQ(compare_doubles(values, {3, 4}, {0.25, 0.5}).bound.max_abs, 0.5);
}

TEST(Compare, ErrorsOfOneElementOppositeSignsAndEqualTensors) {
  EXPECT_EQ(compare_doubles({-2}, {2}, {3, 3}).max_abs, 2);
  const Comparison equal = compare_doubles({1, -2, 3}, {1, -2, 3}, {0, 0});
  EXPECT_TRUE(equal.ok);
  EXPECT_EQ(equal.frobenius, 0);
  EXPECT_EQ(equal.max_abs, 0);
  EXPECT_GE(equal.worst_index, 0);
}

TEST(Compare, FloatsAreComparedInDouble) {
  const std::vector<float> values{1.0f, 2.0f};
  const std::vector<double> reference{1.0, 2.0 + 1e-12};
  const Comparison c = compare(std::span(values), std::span(reference), kTight, 1);
  EXPECT_TRUE(c.ok);
  EXPECT_NEAR(c.max_abs, 5e-13, 1e-15);
}

TEST(Compare, EmptyTensorHasNoError) {
  const Comparison c = compare_doubles({}, {}, {0, 0}, 0);
  EXPECT_TRUE(c.ok);
  EXPECT_EQ(c.frobenius, 0);
  EXPECT_EQ(c.max_abs, 0);
  EXPECT_EQ(c.worst_index, -1);
}

TEST(Compare, DifferentSizesNeverMatch) {
  EXPECT_FALSE(compare_doubles({1}, {1, 2}, kLoose).ok);
  EXPECT_FALSE(compare_doubles({1, 2}, {1}, kLoose).ok);
  EXPECT_FALSE(compare_doubles({}, {0}, kLoose).ok);
  EXPECT_FALSE(compare_doubles({0}, {}, kLoose).ok);
}

TEST(Compare, NanMatchesNanAlone) {
  EXPECT_TRUE(compare_doubles({kNan, 1}, {kNan, 1}).ok);
  EXPECT_TRUE(compare_doubles({-kNan, 1}, {kNan, 1}).ok);
  EXPECT_TRUE(compare_doubles({kNan}, {kNan}).ok);
  for (double other : {0.0, 1.0, kInfinity, -kInfinity}) {
    EXPECT_FALSE(compare_doubles({kNan, 1}, {other, 1}, kLoose).ok) << other;
    EXPECT_FALSE(compare_doubles({other, 1}, {kNan, 1}, kLoose).ok) << other;
  }
}

TEST(Compare, InfinityMatchesTheSameInfinityAlone) {
  EXPECT_TRUE(compare_doubles({kInfinity, -kInfinity, 1}, {kInfinity, -kInfinity, 1}).ok);
  EXPECT_FALSE(compare_doubles({kInfinity, 1}, {-kInfinity, 1}, kLoose).ok);
  EXPECT_FALSE(compare_doubles({kInfinity, 1}, {1e300, 1}, kLoose).ok);
  EXPECT_FALSE(compare_doubles({1e300, 1}, {kInfinity, 1}, kLoose).ok);
}

TEST(Compare, NormsRunOverTheFiniteElements) {
  const Comparison c = compare_doubles({kNan, 3.3, kInfinity, 4.4}, {kNan, 3, kInfinity, 4}, kLoose);
  EXPECT_TRUE(c.ok);
  EXPECT_NEAR(c.frobenius, 0.1, 1e-15);
  EXPECT_NEAR(c.max_abs, 0.1, 1e-15);
  EXPECT_EQ(c.worst_index, 3);
}

TEST(Compare, WorstIndexIsTheFirstMismatchOfNonFiniteValues) {
  const Comparison c = compare_doubles({1, 5, kNan, kInfinity, 9}, {1, 2, 2, 2, 2}, kLoose);
  EXPECT_FALSE(c.ok);
  EXPECT_EQ(c.worst_index, 2);
  EXPECT_TRUE(std::isnan(c.worst_value));
  EXPECT_EQ(c.worst_reference, 2);
}

TEST(Compare, ZeroReferenceIsMeasuredAgainstTheValues) {
  // max |reference| <= 1e-12: the difference must be at most 1e-6 times the scale of the values, whatever the bound.
  EXPECT_TRUE(compare_doubles({0.9e-6, 0}, {0, 0}, {0, 0}, 1).ok);
  EXPECT_FALSE(compare_doubles({1.1e-6, 0}, {0, 0}, kLoose, 1).ok);
  EXPECT_TRUE(compare_doubles({0, -1.9e-6}, {1e-12, 0}, {0, 0}, 2).ok);
  EXPECT_FALSE(compare_doubles({0, -2.1e-6}, {1e-12, 0}, kLoose, 2).ok);
  EXPECT_FALSE(compare_doubles({1.1e-6, 0}, {1.1e-12, 0}, kLoose, 1e9).ok) << "just above, the ordinary rule holds";
  EXPECT_TRUE(compare_doubles({0, 0}, {0, 0}, {0, 0}, 0).ok);
  EXPECT_FALSE(compare_doubles({1e-30, 0}, {0, 0}, kLoose, 0).ok);
}

TEST(Compare, TextNamesWorstIndexBothValuesAndBounds) {
  EXPECT_EQ(compare_doubles({3.3, 4.5}, {3, 4}, {2e-6, 2e-5}).to_string(),
            "frobenius 1.17e-01 (bound 2.0e-06), max 1.25e-01 (bound 2.0e-05); worst at 1: 4.5 for 4");
}

TEST(ToleranceOf, IsTheTableOfTheContract) {
  struct Row {
    ElementType type;
    double output, gradient, max_abs;
  };
  for (const Row& row : {Row{ElementType::f32, 2e-6, 1e-5, 2e-5}, Row{ElementType::f16, 2e-3, 4e-3, 1e-2},
                         Row{ElementType::bf16, 8e-3, 1.6e-2, 4e-2}}) {
    for (double score : {0.0, 1.0, 30.0}) {
      EXPECT_EQ(tolerance(row.type, TensorKind::output, score).frobenius, row.output);
      EXPECT_EQ(tolerance(row.type, TensorKind::gradient, score).frobenius, row.gradient);
      EXPECT_EQ(tolerance(row.type, TensorKind::output, score).max_abs, row.max_abs);
      EXPECT_EQ(tolerance(row.type, TensorKind::gradient, score).max_abs, row.max_abs);
    }
    // Beyond 30 the bounds grow in proportion to |score|.
    EXPECT_DOUBLE_EQ(tolerance(row.type, TensorKind::output, 300).frobenius, 10 * row.output);
    EXPECT_DOUBLE_EQ(tolerance(row.type, TensorKind::gradient, 60).max_abs, 2 * row.max_abs);
    EXPECT_EQ(tolerance(row.type, TensorKind::output).frobenius, row.output) << "ordinary scores by default";
  }
}

}  // namespace
}  // namespace nalab
