#include "core/geometry/tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/core/definition.h"

namespace nalab::geometry {
namespace {

using Mask = std::vector<std::vector<bool>>;

Mask definition(const AxisMask& m) { return test::mask_of({m.length, m.window, m.stride, 1, m.causal}); }

int64_t pairs_in(const Mask& mask, Range queries, Range keys) {
  int64_t pairs = 0;
  for (int64_t q = queries.begin; q < queries.end; ++q) {
    for (int64_t k = keys.begin; k < keys.end; ++k)
      pairs += mask[static_cast<std::size_t>(q)][static_cast<std::size_t>(k)];
  }
  return pairs;
}

TileClass class_of(int64_t attended, int64_t pairs) {
  if (attended == 0) return TileClass::empty;
  return attended == pairs ? TileClass::full : TileClass::partial;
}

template <class F>
void for_every_range(int64_t length, F f) {
  for (int64_t begin = 0; begin < length; ++begin) {
    for (int64_t end = begin + 1; end <= length; ++end) f(Range{begin, end});
  }
}

TEST(TileAxis, CoveringARangeIsTheUnionOfTheTilesThatTouchIt) {
  for (int64_t length = 1; length <= 10; ++length) {
    for (int64_t tile = 1; tile <= length + 1; ++tile) {
      const TileAxis axis{length, tile};
      EXPECT_TRUE(axis.covering({3, 3}).empty());
      for_every_range(length, [&](Range range) {
        Range expected{length, 0};
        for (int64_t i = 0; i < axis.count(); ++i) {
          if (intersect(axis.range(i), range).empty()) continue;
          expected = {std::min(expected.begin, axis.range(i).begin), std::max(expected.end, axis.range(i).end)};
        }
        EXPECT_EQ(axis.covering(range), expected);
      });
    }
  }
}

TEST(Classify, EveryPairOfRangesAlongOneAxis) {
  for (int64_t length = 1; length <= 10; ++length) {
    test::for_every_axis(length, [length](const Axis& axis) {
      if (axis.dilation > 1) return;
      const AxisMask mask = axis.group_mask(0);
      const Mask expected = definition(mask);
      for_every_range(length, [&](Range queries) {
        for_every_range(length, [&](Range keys) {
          ASSERT_EQ(classify(mask, queries, keys),
                    class_of(pairs_in(expected, queries, keys), queries.size() * keys.size()))
              << "length " << length << " window " << mask.window << " stride " << mask.stride << " causal "
              << mask.causal << " queries " << queries.begin << " to " << queries.end << " keys " << keys.begin
              << " to " << keys.end;
        });
      });
    });
  }
}

TEST(QueriesOfAny, AreThoseThatAttendToSomeKeyOfTheRange) {
  for (int64_t length = 1; length <= 10; ++length) {
    test::for_every_axis(length, [length](const Axis& axis) {
      if (axis.dilation > 1) return;
      const AxisMask mask = axis.group_mask(0);
      const Mask expected = definition(mask);
      for_every_range(length, [&](Range keys) {
        const Range queries = mask.queries_of_any(keys);
        for (int64_t q = 0; q < length; ++q) {
          ASSERT_EQ(queries.contains(q), pairs_in(expected, {q, q + 1}, keys) > 0)
              << "length " << length << " window " << mask.window << " stride " << mask.stride << " causal "
              << mask.causal << " query " << q << " keys " << keys.begin << " to " << keys.end;
        }
      });
    });
  }
}

/// Random masks and boxes over the last `rank` axes; the leading ones have one token.
class ClassifyBoxes : public ::testing::TestWithParam<int> {
 protected:
  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }

  GroupMask random_mask() {
    GroupMask mask;
    for (int axis = kAxes - GetParam(); axis < kAxes; ++axis) {
      const int64_t length = pick(1, 9);
      const int64_t window = pick(1, length);
      mask[axis] = {length, window, pick(1, window), pick(0, 1) == 1};
    }
    return mask;
  }

  Box random_box(const GroupMask& mask) {
    Box box;
    for (int axis = 0; axis < kAxes; ++axis) {
      const int64_t begin = pick(0, mask[axis].length - 1);
      box[axis] = {begin, pick(begin + 1, std::min(begin + 4, mask[axis].length))};
    }
    return box;
  }

  std::mt19937_64 random_{static_cast<uint64_t>(GetParam())};
};

TEST_P(ClassifyBoxes, AgreesWithEveryPairOfTokens) {
  std::array<int, 3> seen{};
  for (int i = 0; i < 3000; ++i) {
    const GroupMask mask = random_mask();
    const std::array<Mask, kAxes> expected{definition(mask[0]), definition(mask[1]), definition(mask[2])};
    const Box queries = random_box(mask);
    const Box keys = random_box(mask);
    int64_t attended = 0;
    int64_t pairs = 0;
    const auto attends = [&](int axis, int64_t q, int64_t k) {
      return static_cast<bool>(expected[axis][static_cast<std::size_t>(q)][static_cast<std::size_t>(k)]);
    };
    for (int64_t q0 = queries[0].begin; q0 < queries[0].end; ++q0)
      for (int64_t q1 = queries[1].begin; q1 < queries[1].end; ++q1)
        for (int64_t q2 = queries[2].begin; q2 < queries[2].end; ++q2)
          for (int64_t k0 = keys[0].begin; k0 < keys[0].end; ++k0)
            for (int64_t k1 = keys[1].begin; k1 < keys[1].end; ++k1)
              for (int64_t k2 = keys[2].begin; k2 < keys[2].end; ++k2, ++pairs)
                attended += attends(0, q0, k0) && attends(1, q1, k1) && attends(2, q2, k2);
    ASSERT_EQ(pairs, size(queries) * size(keys));
    const TileClass expected_class = class_of(attended, pairs);
    ASSERT_EQ(classify(mask, queries, keys), expected_class);
    ++seen[static_cast<std::size_t>(expected_class)];
  }
  for (int count : seen) EXPECT_GT(count, 100) << "each class must occur";
}

TEST_P(ClassifyBoxes, KeysOfAnyIsTheUnionOfTheWindows) {
  for (int i = 0; i < 1000; ++i) {
    const GroupMask mask = random_mask();
    const Box queries = random_box(mask);
    const Box keys = keys_of_any(mask, queries);
    for (int axis = 0; axis < kAxes; ++axis) {
      const Mask expected = definition(mask[axis]);
      for (int64_t k = 0; k < mask[axis].length; ++k) {
        ASSERT_EQ(keys[axis].contains(k), pairs_in(expected, queries[axis], {k, k + 1}) > 0) << "axis " << axis;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ClassifyBoxes, ::testing::Values(1, 2, 3),
                         [](const auto& test) { return "rank_" + std::to_string(test.param); });

TEST(TileAxis, TilesCutTheAxisWithoutGapOrOverlap) {
  for (int64_t length = 1; length <= 20; ++length) {
    for (int64_t tile = 1; tile <= 22; ++tile) {
      const TileAxis axis{length, tile};
      int64_t end = 0;
      for (int64_t i = 0; i < axis.count(); ++i) {
        const Range range = axis.range(i);
        ASSERT_EQ(range.begin, end) << "length " << length << " tile " << tile;
        ASSERT_EQ(range.size(), i + 1 < axis.count() ? tile : length - i * tile);
        end = range.end;
      }
      ASSERT_EQ(end, length);
    }
  }
}

TEST(KeysOfTiles, EqualTheSumOverTheTiles) {
  for (int64_t length = 1; length <= 23; ++length) {
    for (int64_t window = 1; window <= length; ++window) {
      for (int64_t stride = 1; stride <= window; ++stride) {
        for (bool causal : {false, true}) {
          const AxisMask mask{length, window, stride, causal};
          for (int64_t tile = 1; tile <= length + 2; ++tile) {
            const TileAxis tiles{length, tile};
            int64_t keys = 0;
            for (int64_t i = 0; i < tiles.count(); ++i) keys += mask.keys_of_any(tiles.range(i)).size();
            ASSERT_EQ(keys_of_tiles(mask, tile), keys) << "length " << length << " window " << window << " stride "
                                                       << stride << " causal " << causal << " tile " << tile;
          }
        }
      }
    }
  }
}

TEST(KeysOfTiles, TakeNoTimeOnALongAxis) {
  // Every tile but the first and the last, at the edges, sees two keys more than it has queries.
  EXPECT_EQ(keys_of_tiles({.length = int64_t{1} << 31, .window = 3}, 32), (int64_t{1} << 26) * 34 - 2);
}

TEST(TileAxis, TouchingAreTheTilesWithACommonPosition) {
  for (int64_t length = 1; length <= 12; ++length) {
    for (int64_t tile = 1; tile <= 13; ++tile) {
      const TileAxis axis{length, tile};
      for_every_range(length, [&](Range positions) {
        for (int64_t i = 0; i < axis.count(); ++i) {
          ASSERT_EQ(axis.touching(positions).contains(i), !intersect(axis.range(i), positions).empty())
              << "length " << length << " tile " << tile << " positions " << positions.begin << " to " << positions.end;
        }
        ASSERT_LE(axis.touching(positions).end, axis.count());
      });
    }
  }
}

static_assert(classify(AxisMask{.length = 9, .window = 3}, {3, 5}, {3, 5}) == TileClass::full);
static_assert(classify(AxisMask{.length = 9, .window = 3}, {3, 5}, {2, 5}) == TileClass::partial);
static_assert(classify(AxisMask{.length = 9, .window = 3}, {3, 5}, {6, 9}) == TileClass::empty);

}  // namespace
}  // namespace nalab::geometry
