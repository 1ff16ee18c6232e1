// Tiles along one axis, for every axis of a few tokens and every small cut, against the text of the contract.
#include "core/gpu/axis_tiles.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/core/definition.h"

namespace nalab::gpu {
namespace {

using geometry::AxisMask;

constexpr int64_t kMostExtent = 11;

/// Calls f(mask, attends) for every axis without dilation: a dilation group is one.
template <class F>
void for_every_mask(F f) {
  for (int64_t extent = 1; extent <= kMostExtent; ++extent) {
    test::for_every_axis(extent, [&](const Axis& axis) {
      if (axis.dilation == 1) f(axis.group_mask(0), test::mask_of(axis));
    });
  }
}

/// Every cut of the split axis, and of others, by small tiles.
template <class F>
void for_every_cut(F f) {
  for (const int32_t warpgroup : {1, 2, 4}) {
    for (const int32_t parts : {1, 2}) {
      for (const int32_t kv : {1, 2, 3, 5}) f(AxisCut{parts * warpgroup, warpgroup, kv});
    }
  }
}

struct Queries {
  int64_t begin, end;
};

/// Of a warpgroup in a tile, by the text of plan_data.h.
Queries queries_of(const AxisTile& tile, const AxisCut& cut, int w, int64_t length) {
  const int64_t begin = tile.origin + (cut.warpgroup < cut.query ? w * cut.warpgroup : 0);
  return {begin, std::min(begin + cut.warpgroup, length)};
}

TEST(AxisTiles, EveryQueryLiesInOneTileOfOneWarpgroup) {
  for_every_mask([](const AxisMask& mask, const auto&) {
    for_every_cut([&](const AxisCut& cut) {
      std::vector<int> seen(static_cast<std::size_t>(mask.length));
      for (const AxisTile& tile : axis_tiles(mask, cut)) {
        for (int w = 0; w < (cut.warpgroup < cut.query ? kWarpgroups : 1); ++w) {
          const Queries queries = queries_of(tile, cut, w, mask.length);
          for (int64_t q = queries.begin; q < queries.end; ++q) ++seen.at(static_cast<std::size_t>(q));
          EXPECT_EQ(queries.begin >= queries.end, tile.any[w].begin >= tile.any[w].end);
        }
      }
      EXPECT_EQ(seen, std::vector<int>(seen.size(), 1));
    });
  });
}

TEST(AxisTiles, VisitedTilesHoldEveryAttendedKeyAndFullOnesNoOther) {
  for_every_mask([](const AxisMask& mask, const auto& attends) {
    for_every_cut([&](const AxisCut& cut) {
      for (const AxisTile& tile : axis_tiles(mask, cut)) {
        for (int w = 0; w < kWarpgroups; ++w) {
          const Queries queries = queries_of(tile, cut, w, mask.length);
          const Span any = tile.any[w], full = tile.full[w];
          ASSERT_TRUE(any.begin <= full.begin && full.begin <= full.end && full.end <= any.end);
          ASSERT_TRUE(0 <= any.begin && any.end <= tile.kv_tiles);
          for (int64_t q = queries.begin; q < queries.end; ++q) {
            for (int64_t k = 0; k < mask.length; ++k) {
              const int64_t t = geometry::floor_div(k - tile.kv_begin, cut.kv);
              const bool attended = attends[static_cast<std::size_t>(q)][static_cast<std::size_t>(k)];
              ASSERT_TRUE(!attended || (any.begin <= t && t < any.end)) << q << " " << k;
              ASSERT_TRUE(attended || t < full.begin || t >= full.end) << q << " " << k;
            }
            // What lies beyond the end is no key of anyone.
            ASSERT_LE(tile.kv_begin + full.end * cut.kv, mask.length);
          }
        }
      }
    });
  });
}

TEST(AxisTiles, VisitsBeginAndEndWithTilesThatAreNeeded) {
  for_every_mask([](const AxisMask& mask, const auto& attends) {
    for_every_cut([&](const AxisCut& cut) {
      for (const AxisTile& tile : axis_tiles(mask, cut)) {
        for (int w = 0; w < kWarpgroups; ++w) {
          const Queries queries = queries_of(tile, cut, w, mask.length);
          if (queries.begin >= queries.end) continue;
          std::set<int64_t> needed;
          for (int64_t q = queries.begin; q < queries.end; ++q) {
            for (int64_t k = 0; k < mask.length; ++k) {
              if (attends[static_cast<std::size_t>(q)][static_cast<std::size_t>(k)]) {
                needed.insert((k - tile.kv_begin) / cut.kv);
              }
            }
          }
          ASSERT_EQ(tile.any[w].begin, *needed.begin());
          ASSERT_EQ(tile.any[w].end, *needed.rbegin() + 1);
        }
      }
    });
  });
}

TEST(AxisTiles, FullIsWhateverIsFull) {
  for_every_mask([](const AxisMask& mask, const auto& attends) {
    for_every_cut([&](const AxisCut& cut) {
      for (const AxisTile& tile : axis_tiles(mask, cut)) {
        for (int w = 0; w < kWarpgroups; ++w) {
          const Queries queries = queries_of(tile, cut, w, mask.length);
          int32_t full = 0;
          for (int32_t t = tile.any[w].begin; t < tile.any[w].end; ++t) {
            bool all = tile.kv_begin + (t + 1) * cut.kv <= mask.length;
            for (int64_t k = tile.kv_begin + t * cut.kv; all && k < tile.kv_begin + (t + 1) * cut.kv; ++k) {
              for (int64_t q = queries.begin; q < queries.end; ++q) {
                all = all && attends[static_cast<std::size_t>(q)][static_cast<std::size_t>(k)];
              }
            }
            full += all ? 1 : 0;
          }
          ASSERT_EQ(full, tile.full[w].end - tile.full[w].begin);
        }
      }
    });
  });
}

TEST(AxisTiles, PartialTilesHaveSlotsOfTheirOwn) {
  for_every_mask([](const AxisMask& mask, const auto&) {
    for_every_cut([&](const AxisCut& cut) {
      for (const AxisTile& tile : axis_tiles(mask, cut)) {
        for (int w = 0; w < kWarpgroups; ++w) {
          const Span any = tile.any[w], full = tile.full[w];
          int next = 1;
          for (int32_t t = any.begin; t < any.end; ++t) {
            ASSERT_EQ(inner_slot(any, full, t), full.begin <= t && t < full.end ? 0 : next++);
          }
        }
      }
    });
  });
}

TEST(AxisTiles, KeyRangesAreWhatQueriesAttendTo) {
  for_every_mask([](const AxisMask& mask, const auto& attends) {
    for_every_cut([&](const AxisCut& cut) {
      const auto ranges = key_ranges(mask, cut);
      for (const AxisTile& tile : axis_tiles(mask, cut)) {
        for (int32_t c = 0; c < cut.query; ++c) {
          const KeyRange range = ranges.at(static_cast<std::size_t>(tile.key_ranges + c));
          const auto& row = attends[static_cast<std::size_t>(std::min<int64_t>(tile.origin + c, mask.length - 1))];
          for (int64_t k = 0; k < mask.length; ++k) {
            ASSERT_EQ(range.begin <= k && k < range.end, row[static_cast<std::size_t>(k)]);
          }
        }
      }
    });
  });
}

}  // namespace
}  // namespace nalab::gpu
