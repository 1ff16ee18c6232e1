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

/// view_of, tile by tile and pair by pair.
TileView view_by_pairs(const Mask& mask, Range queries, int64_t kv_tile, KvTiling tiling) {
  const auto length = static_cast<int64_t>(mask.size());
  int64_t origin = 0;
  while (tiling == KvTiling::dynamic_tiles && pairs_in(mask, queries, {origin, origin + 1}) == 0) ++origin;
  TileView view;
  std::vector<int64_t> visited, full;
  for (int64_t i = 0; origin + i * kv_tile < length; ++i) {
    const Range keys{origin + i * kv_tile, std::min(origin + (i + 1) * kv_tile, length)};
    const int64_t pairs = pairs_in(mask, queries, keys);
    if (pairs == 0) continue;
    visited.push_back(i);
    view.keys += keys.size();
    if (pairs == queries.size() * keys.size()) full.push_back(i);
  }
  view.visited = {visited.front(), visited.back() + 1};
  EXPECT_EQ(view.visited.size(), static_cast<int64_t>(visited.size())) << "no gap between visited tiles";
  if (!full.empty()) view.full = {full.front(), full.back() + 1};
  EXPECT_EQ(view.full.size(), static_cast<int64_t>(full.size())) << "no gap between full tiles";
  return view;
}

TEST(ViewOf, EveryRangeOfQueriesAlongOneAxisWithBothKvTilings) {
  for (int64_t length = 1; length <= 10; ++length) {
    test::for_every_axis(length, [length](const Axis& axis) {
      if (axis.dilation > 1) return;
      const AxisMask mask = axis.group_mask(0);
      const Mask expected = definition(mask);
      for_every_range(length, [&](Range queries) {
        for (int64_t kv_tile = 1; kv_tile <= length + 1; ++kv_tile) {
          for (const KvTiling tiling : {KvTiling::static_tiles, KvTiling::dynamic_tiles}) {
            const TileView view = view_of(mask, queries, kv_tile, tiling);
            const TileView pairs = view_by_pairs(expected, queries, kv_tile, tiling);
            const bool same_full = pairs.full.empty() ? view.full.empty() : view.full == pairs.full;
            ASSERT_TRUE(view.visited == pairs.visited && same_full && view.keys == pairs.keys)
                << "length " << length << " window " << mask.window << " stride " << mask.stride << " causal "
                << mask.causal << " queries " << queries.begin << " to " << queries.end << " KV tile " << kv_tile
                << (tiling == KvTiling::static_tiles ? " static" : " dynamic");
          }
        }
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
class Boxes : public ::testing::TestWithParam<int> {
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

TEST_P(Boxes, QueriesOfAnyAndKeysOfAnyAreTheUnionsOfTheWindows) {
  for (int i = 0; i < 1000; ++i) {
    const GroupMask mask = random_mask();
    const Box box = random_box(mask);
    const Box keys = keys_of_any(mask, box), queries = queries_of_any(mask, box);
    for (int axis = 0; axis < kAxes; ++axis) {
      const Mask expected = definition(mask[axis]);
      for (int64_t x = 0; x < mask[axis].length; ++x) {
        ASSERT_EQ(keys[axis].contains(x), pairs_in(expected, box[axis], {x, x + 1}) > 0) << "axis " << axis;
        ASSERT_EQ(queries[axis].contains(x), pairs_in(expected, {x, x + 1}, box[axis]) > 0) << "axis " << axis;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, Boxes, ::testing::Values(1, 2, 3),
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

constexpr TileView kView = view_of({.length = 9, .window = 3}, {3, 5}, 2, KvTiling::static_tiles);
static_assert(kView.visited == Range{1, 3} && kView.full.empty() && kView.keys == 4);
static_assert(view_of({.length = 9, .window = 5}, {3, 5}, 2, KvTiling::dynamic_tiles).full == Range{1, 2});

}  // namespace
}  // namespace nalab::geometry
