#include "core/geometry/axis.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>

#include "tests/core/definition.h"

namespace nalab::geometry {
namespace {

std::string text(const Axis& a) {
  return "extent " + std::to_string(a.extent) + " window " + std::to_string(a.window) + " stride " +
         std::to_string(a.stride) + " dilation " + std::to_string(a.dilation) + (a.causal ? " causal" : "");
}

bool at(const std::vector<std::vector<bool>>& mask, int64_t query, int64_t key) {
  return mask[static_cast<std::size_t>(query)][static_cast<std::size_t>(key)];
}

/// Checks everything that a dilation group answers, for each group of the axis, against the definition.
void check_groups(const Axis& axis) {
  SCOPED_TRACE(text(axis));
  const auto mask = test::mask_of(axis);
  int64_t coordinates = 0;
  int64_t pairs_of_axis = 0;
  for (int64_t g = 0; g < axis.dilation; ++g) {
    const AxisMask group = axis.group_mask(g);
    ASSERT_EQ(group.length, axis.group_length(g));
    ASSERT_LT(axis.coordinate(g, group.length - 1), axis.extent);
    ASSERT_GE(axis.coordinate(g, group.length), axis.extent);
    coordinates += group.length;
    int64_t pairs = 0;
    for (int64_t p = 0; p < group.length; ++p) {
      ASSERT_TRUE(group.keys(p).contains(p)) << "position " << p;
      for (int64_t k = 0; k < group.length; ++k) {
        const bool expected = at(mask, axis.coordinate(g, p), axis.coordinate(g, k));
        pairs += expected;
        ASSERT_EQ(group.keys(p).contains(k), expected) << "keys of " << p << ", key " << k << ", group " << g;
        ASSERT_EQ(group.queries(k).contains(p), expected) << "queries of " << k << ", query " << p << ", group " << g;
      }
      ASSERT_TRUE((Range{0, group.length}.contains(group.keys(p)))) << "position " << p;
      ASSERT_TRUE((Range{0, group.length}.contains(group.queries(p)))) << "position " << p;
    }
    ASSERT_EQ(group.attended_pairs(), pairs) << "group " << g;
    pairs_of_axis += pairs;
  }
  ASSERT_EQ(coordinates, axis.extent);
  ASSERT_EQ(axis.attended_pairs(), pairs_of_axis);
}

/// Checks the union and the intersection of the windows of every range of queries of a mask without dilation.
void check_query_ranges(const AxisMask& mask) {
  const auto expected = test::mask_of({mask.length, mask.window, mask.stride, 1, mask.causal});
  for (int64_t begin = 0; begin < mask.length; ++begin) {
    std::vector<bool> any(static_cast<std::size_t>(mask.length), false);
    std::vector<bool> all(static_cast<std::size_t>(mask.length), true);
    for (int64_t end = begin + 1; end <= mask.length; ++end) {
      const auto& row = expected[static_cast<std::size_t>(end - 1)];
      for (std::size_t k = 0; k < row.size(); ++k) {
        any[k] = any[k] || row[k];
        all[k] = all[k] && row[k];
        const auto key = static_cast<int64_t>(k);
        ASSERT_EQ(mask.keys_of_any({begin, end}).contains(key), any[k])
            << "queries " << begin << " to " << end << ", key " << k;
        ASSERT_EQ(mask.keys_of_all({begin, end}).contains(key), all[k])
            << "queries " << begin << " to " << end << ", key " << k;
      }
    }
  }
}

TEST(Range, SizeContainsAndIntersection) {
  EXPECT_EQ((Range{3, 7}.size()), 4);
  EXPECT_EQ((Range{7, 3}.size()), 0);
  EXPECT_TRUE((Range{7, 3}.empty()));
  EXPECT_TRUE((Range{3, 3}.empty()));
  EXPECT_FALSE((Range{3, 4}.empty()));
  EXPECT_FALSE((Range{3, 7}.contains(2)));
  EXPECT_TRUE((Range{3, 7}.contains(3)));
  EXPECT_TRUE((Range{3, 7}.contains(6)));
  EXPECT_FALSE((Range{3, 7}.contains(7)));
  EXPECT_TRUE((Range{3, 7}.contains(Range{3, 7})));
  EXPECT_FALSE((Range{3, 7}.contains(Range{3, 8})));
  EXPECT_FALSE((Range{3, 7}.contains(Range{2, 7})));
  EXPECT_TRUE((Range{3, 7}.contains(Range{9, 9}))) << "the empty range is in every range";
  EXPECT_EQ(intersect({3, 7}, {5, 9}), (Range{5, 7}));
  EXPECT_TRUE(intersect({3, 5}, {5, 9}).empty());
}

TEST(Division, RoundsTowardsMinusAndPlusInfinity) {
  for (int64_t a = -20; a <= 20; ++a) {
    for (int64_t b = 1; b <= 7; ++b) {
      EXPECT_EQ(floor_div(a, b), static_cast<int64_t>(std::floor(static_cast<double>(a) / static_cast<double>(b))));
      EXPECT_EQ(ceil_div(a, b), static_cast<int64_t>(std::ceil(static_cast<double>(a) / static_cast<double>(b))));
    }
  }
}

TEST(Axis, EveryAxisUpToTwelveIsTheDefinition) {
  for (int64_t extent = 1; extent <= 12; ++extent) {
    test::for_every_axis(extent, [](const Axis& axis) { ASSERT_NO_FATAL_FAILURE(check_groups(axis)); });
  }
}

TEST(Axis, EveryQueryRangeUpToTwelve) {
  for (int64_t length = 1; length <= 12; ++length) {
    test::for_every_axis(length, [](const Axis& axis) {
      if (axis.dilation > 1) return;
      SCOPED_TRACE(text(axis));
      ASSERT_NO_FATAL_FAILURE(check_query_ranges(axis.group_mask(0)));
    });
  }
}

TEST(Axis, LargerExtentsAtRandom) {
  std::mt19937_64 random(20250117);
  const auto pick = [&random](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int64_t extent : {13, 31, 64, 97, 101, 128}) {
    for (int i = 0; i < 40; ++i) {
      Axis axis{.extent = extent};
      axis.dilation = pick(1, i % 2 == 0 ? 1 : extent);
      axis.window = pick(1, extent / axis.dilation);
      axis.stride = pick(1, axis.window);
      axis.causal = pick(0, 1) == 1;
      ASSERT_NO_FATAL_FAILURE(check_groups(axis));
      SCOPED_TRACE(text(axis));
      ASSERT_NO_FATAL_FAILURE(check_query_ranges(axis.group_mask(axis.dilation - 1)));
    }
  }
}

TEST(Axis, CoversEverythingWhereEveryPairIsAttended) {
  for (int64_t extent = 1; extent <= 12; ++extent) {
    test::for_every_axis(extent, [](const Axis& axis) {
      EXPECT_EQ(axis.covers_everything(), axis.attended_pairs() == axis.extent * axis.extent) << text(axis);
    });
  }
}

TEST(Axis, NamedSpecialCases) {
  const AxisMask self{.length = 7, .window = 7};
  const AxisMask projection{.length = 7, .window = 1};
  const AxisMask blocked{.length = 10, .window = 4, .stride = 4};
  for (int64_t p = 0; p < 7; ++p) {
    EXPECT_EQ(self.keys(p), (Range{0, 7}));
    EXPECT_EQ(projection.keys(p), (Range{p, p + 1}));
  }
  for (int64_t p = 0; p < 8; ++p) EXPECT_EQ(blocked.keys(p), (Range{p / 4 * 4, p / 4 * 4 + 4}));
  // The last block is cut short: its window moves left to stay inside.
  EXPECT_EQ(blocked.keys(8), (Range{6, 10}));
  EXPECT_EQ(blocked.keys(9), (Range{6, 10}));
  // An even window leans left by one.
  EXPECT_EQ((AxisMask{.length = 20, .window = 4}.keys(10)), (Range{8, 12}));
}

// 2^31 positions and a window of 2^20: positions, products and sums beyond 32 bits.
TEST(Axis, BeyondThirtyTwoBits) {
  constexpr int64_t kLength = int64_t{1} << 31;
  constexpr int64_t kWindow = int64_t{1} << 20;
  constexpr int64_t kHalf = kWindow / 2;
  constexpr int64_t kMiddle = int64_t{1} << 30;

  const AxisMask sliding{.length = kLength, .window = kWindow};
  EXPECT_EQ(sliding.keys(0), (Range{0, kWindow}));
  EXPECT_EQ(sliding.keys(kMiddle), (Range{kMiddle - kHalf, kMiddle + kHalf}));
  EXPECT_EQ(sliding.keys(kLength - 1), (Range{kLength - kWindow, kLength}));
  EXPECT_EQ(sliding.queries(kMiddle), (Range{kMiddle - kHalf + 1, kMiddle + kHalf + 1}));
  EXPECT_EQ(sliding.queries(0), (Range{0, kHalf + 1}));
  EXPECT_EQ(sliding.queries(kLength - 1), (Range{kLength - kHalf, kLength}));
  EXPECT_EQ(sliding.attended_pairs(), int64_t{1} << 51);

  // Stride 2^18: leaders at f + 2^17, hence starts at f + 2^17 - 2^19.
  constexpr int64_t kQuarter = int64_t{1} << 18;
  const AxisMask strided{.length = kLength, .window = kWindow, .stride = kQuarter};
  for (int64_t p : {kMiddle, kMiddle + kQuarter - 1}) {
    EXPECT_EQ(strided.keys(p), (Range{kMiddle - kHalf + kQuarter / 2, kMiddle + kHalf + kQuarter / 2}));
  }
  EXPECT_EQ(strided.queries(kMiddle), (Range{kMiddle - kHalf, kMiddle + kHalf}));

  // Causal: 1 + 2 + ... + window, then the window; blocked: that sum in each of the 2^11 blocks; whole: one triangle.
  const int64_t triangle = kWindow / 2 * (kWindow + 1);
  EXPECT_EQ((AxisMask{kLength, kWindow, 1, true}.attended_pairs()), triangle + (kLength - kWindow) * kWindow);
  EXPECT_EQ((AxisMask{kLength, kWindow, kWindow, true}.attended_pairs()), triangle * (kLength / kWindow));
  EXPECT_EQ((AxisMask{kLength, kLength, 1, true}.attended_pairs()), kLength / 2 * (kLength + 1));
  EXPECT_EQ((AxisMask{kLength, kLength, kLength, true}.attended_pairs()), kLength / 2 * (kLength + 1));
  EXPECT_EQ((AxisMask{kLength, kWindow, 1, true}.keys(kLength - 1)), (Range{kLength - kWindow, kLength}));

  // 2^10 dilation groups of 2^21 positions; with one coordinate less, the last group is one shorter.
  const Axis dilated{.extent = kLength, .window = kWindow, .dilation = 1024, .causal = true};
  EXPECT_EQ(dilated.attended_pairs(), 1024 * (triangle + kWindow * kWindow));
  const Axis ragged{.extent = kLength - 1, .window = kWindow, .dilation = 1024, .causal = true};
  EXPECT_EQ(ragged.group_length(0), 2 * kWindow);
  EXPECT_EQ(ragged.group_length(1023), 2 * kWindow - 1);
  EXPECT_EQ(ragged.attended_pairs(), 1024 * (triangle + kWindow * kWindow) - kWindow);
}

// All of it is known to the compiler.
static_assert(AxisMask{.length = 9, .window = 5}.keys(4) == Range{2, 7});
static_assert(AxisMask{.length = 9, .window = 5}.queries(0) == Range{0, 3});
static_assert(AxisMask{.length = 9, .window = 4, .stride = 2, .causal = true}.attended_pairs() ==
              1 + 2 + 3 + 4 + 3 + 4 + 3 + 4 + 4);
static_assert(Axis{.extent = 7, .window = 3, .dilation = 2}.attended_pairs() == 21);

}  // namespace
}  // namespace nalab::geometry
