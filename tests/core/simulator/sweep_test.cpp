#include "core/simulator/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "core/error.h"
#include "core/simulator/counting.h"

namespace nalab::simulator {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

using Value = std::vector<int64_t>;

const Problem kSmall{.axes = {{.extent = 7, .window = 4}, {.extent = 12, .window = 6}}};
const TileShapes kSmallTiles{{2, 4}, {3, 2}};

/// Every pair of values from (1, 1) to a limit, whether valid or not.
std::vector<Value> pairs_up_to(int64_t first, int64_t second) {
  std::vector<Value> values;
  for (int64_t a = 1; a <= first; ++a) {
    for (int64_t b = 1; b <= second; ++b) values.push_back({a, b});
  }
  return values;
}

std::map<Value, Simulation> by_value(const std::vector<SweepPoint>& points) {
  std::map<Value, Simulation> map;
  for (const SweepPoint& point : points) map[point.value] = point.simulation;
  return map;
}

bool is_sorted_by_speedup(const std::vector<SweepPoint>& points) {
  return std::is_sorted(points.begin(), points.end(), [](const SweepPoint& a, const SweepPoint& b) {
    return a.simulation.speedup_worst() < b.simulation.speedup_worst();
  });
}

/// The points of `all` for which none that is at least as wanted is as fast.
template <class AsWanted>
std::map<Value, Simulation> pareto(const std::map<Value, Simulation>& all, const AsWanted& as_wanted) {
  std::map<Value, Simulation> kept;
  for (const auto& one : all) {
    const bool dominated = std::any_of(all.begin(), all.end(), [&](const auto& other) {
      return other.first != one.first && as_wanted(other.first, one.first) &&
             other.second.speedup_worst() >= one.second.speedup_worst();
    });
    if (!dominated) kept.insert(one);
  }
  return kept;
}

TEST(Sweep, KeepsNoLargerStrideWithoutABetterSpeedup) {
  for (const int64_t extra : {0, 13}) {
    for (const KvTiling tiling : {KvTiling::static_tiles, KvTiling::dynamic_tiles}) {
      Problem problem = kSmall;
      problem.extra_tokens = extra;
      TileShapes tiles = kSmallTiles;
      tiles.kv_tiling = tiling;
      std::map<Value, Simulation> all;
      for (const Value& stride : pairs_up_to(4, 6)) {
        Problem strided = problem;
        for (int i = 0; i < 2; ++i) strided.axes[i].stride = stride[i];
        all[stride] = simulate(strided, tiles);
      }
      const auto points = sweep(problem, tiles, SweepOver::stride);
      EXPECT_EQ(by_value(points),
                pareto(all, [](const Value& a, const Value& b) { return a[0] <= b[0] && a[1] <= b[1]; }));
      EXPECT_TRUE(is_sorted_by_speedup(points));
    }
  }
}

TEST(Sweep, KeepsNoSmallerWindowWithoutABetterSpeedup) {
  Problem problem = kSmall;
  problem.axes[1].dilation = 2;
  problem.axes[0].stride = 2;
  std::map<Value, Simulation> all;
  for (const Value& window : pairs_up_to(7, 6)) {
    if (window[0] < 2) continue;
    Problem windowed = problem;
    for (int i = 0; i < 2; ++i) windowed.axes[i].window = window[i];
    all[window] = simulate(windowed, kSmallTiles);
  }
  const auto points = sweep(problem, kSmallTiles, SweepOver::window);
  EXPECT_EQ(by_value(points), pareto(all, [](const Value& a, const Value& b) { return a[0] >= b[0] && a[1] >= b[1]; }));
  EXPECT_TRUE(is_sorted_by_speedup(points));
}

TEST(MostVisited, IsWhatTheWorstQueryTileVisits) {
  for (const KvTiling tiling : {KvTiling::static_tiles, KvTiling::dynamic_tiles}) {
    for (const bool causal : {false, true}) {
      for (const auto& [extent, dilation] : {std::pair(1, 1), {7, 1}, {13, 2}, {24, 1}, {31, 1}, {60, 1}}) {
        for (int64_t window = 1; window <= extent / dilation; ++window) {
          for (int64_t stride = 1; stride <= window; ++stride) {
            const geometry::Axis axis{extent, window, stride, dilation, causal};
            for (const int64_t query : {1, 2, 3, 4, 6, 100}) {
              for (const int64_t kv : {1, 2, 3, 5, 100}) {
                Effort effort;
                ASSERT_EQ(most_visited(axis, query, kv, tiling, effort),
                          count_axis(axis, query, kv, tiling, effort).tiles_visited_worst)
                    << extent << ' ' << window << ' ' << stride << ' ' << dilation << ' ' << causal << ", tiles of "
                    << query << " and " << kv;
              }
            }
          }
        }
      }
    }
  }
}

TEST(MostVisited, LooksAtFewTilesOfALongAxis) {
  // More than Effort allows if every tile were looked at.
  Effort effort;
  for (int64_t window = 1; window < 1'000'000'000; window *= 2) {
    const geometry::Axis axis{.extent = 1'000'000'000, .window = window, .stride = std::min<int64_t>(window, 4)};
    EXPECT_GE(most_visited(axis, 8, 16, KvTiling::static_tiles, effort), window / 16);
  }
}

TEST(Sweep, KeepsTheFastestTilesOfASize) {
  for (const SweepOver over : {SweepOver::query_tile, SweepOver::kv_tile}) {
    const TileShapes given{{4, 2}, {2, 4}};
    std::map<Value, Simulation> all;
    for (const int64_t a : {1, 2, 4, 7}) {
      for (const int64_t b : {1, 2, 4, 8}) {
        if (a * b > 8) continue;
        TileShapes tiles = given;
        (over == SweepOver::query_tile ? tiles.query : tiles.kv) = {a, b};
        all[{a, b}] = simulate(kSmall, tiles);
      }
    }
    const auto points = sweep(kSmall, given, over);
    std::map<Value, Simulation> kept;
    for (const auto& [value, simulation] : all) {
      const bool beaten = std::any_of(all.begin(), all.end(), [&, v = value, s = simulation](const auto& other) {
        const int64_t tokens = v[0] * v[1], others = other.first[0] * other.first[1];
        const double speedup = s.speedup_worst(), others_speedup = other.second.speedup_worst();
        return (others >= tokens && others_speedup > speedup) || (others > tokens && others_speedup == speedup);
      });
      if (!beaten) kept[value] = simulation;
    }
    EXPECT_EQ(by_value(points), kept);
    EXPECT_TRUE(is_sorted_by_speedup(points));
  }
}

TEST(Sweep, TakesAllStridesOfHunyuanVideoInUnderASecond) {
  const Problem problem{.axes = {{30, 18}, {48, 24}, {80, 24}}};
  const auto start = std::chrono::steady_clock::now();
  const auto points = sweep(problem, {{4, 8, 8}, {2, 8, 8}}, SweepOver::stride);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_LT(elapsed.count(), 1.0);
  EXPECT_THAT(points.front().value, ElementsAre(1, 1, 1));
  EXPECT_THAT(points.back().value, ElementsAre(16, 8, 8));
  EXPECT_TRUE(points.back().simulation.perfectly_block_sparse());
}

TEST(Sweep, RefusesWhatItCannotDo) {
  TileShapes flattened = kSmallTiles;
  flattened.tile_rank = TileRank::single_dimensional;
  EXPECT_THAT([&] { sweep(kSmall, flattened, SweepOver::stride); },
              ThrowsMessage<Error>(HasSubstr("multi-dimensional")));
  const Problem large{.axes = {{512, 512}, {512, 512}, {512, 512}}, .head_dim = 1, .head_dim_v = 1};
  EXPECT_THAT(
      [&] {
        sweep(large, {{4, 8, 8}, {2, 8, 8}}, SweepOver::stride);
      },
      ThrowsMessage<Error>(HasSubstr("there are more than 16777216 combinations to try")));
}

TEST(Recommend, FindsEveryWindowWithoutWasteAndItsSmallestStride) {
  const Problem layout{.axes = {{.extent = 8}, {.extent = 12}}};
  for (const KvTiling tiling : {KvTiling::static_tiles, KvTiling::dynamic_tiles}) {
    for (const int64_t extra : {0, 20}) {
      const TileShapes tiles{{2, 2}, {2, 3}, tiling};
      constexpr double kSparsity = 0.6, kTolerance = 0.15;
      std::map<Value, Value> expected;  // window -> smallest stride per axis
      for (const Value& window : pairs_up_to(8, 12)) {
        for (const Value& stride : pairs_up_to(window[0], window[1])) {
          Problem problem{.axes = {{8, window[0], stride[0]}, {12, window[1], stride[1]}}, .extra_tokens = extra};
          const Simulation s = simulate(problem, tiles);
          if (!s.perfectly_block_sparse() || std::abs(s.sparsity() - kSparsity) > kTolerance) continue;
          const auto [entry, is_new] = expected.try_emplace(window, stride);
          if (!is_new && stride[0] <= entry->second[0] && stride[1] <= entry->second[1]) entry->second = stride;
        }
      }
      ASSERT_FALSE(expected.empty());
      Problem problem = layout;
      problem.extra_tokens = extra;
      std::map<Value, Value> found;
      for (const Recommendation& r : recommend(problem, tiles, kSparsity, kTolerance)) {
        found[r.window] = r.stride;
        EXPECT_TRUE(r.simulation.perfectly_block_sparse());
        EXPECT_NEAR(r.simulation.sparsity(), kSparsity, kTolerance);
      }
      EXPECT_EQ(found, expected);
    }
  }
}

TEST(Recommend, PutsTheMostEvenWindowFirst) {
  const Problem flux{.axes = {{.extent = 256}, {.extent = 256}}};
  const auto found = recommend(flux, {{16, 16}, {16, 8}}, 0.9);
  ASSERT_FALSE(found.empty());
  EXPECT_THAT(found.front().window, ElementsAre(80, 80));
  EXPECT_THAT(found.front().stride, ElementsAre(16, 16));
}

TEST(Recommend, PutsTheNearestSparsityFirstAmongEqualStrides) {
  const Problem one_axis{.axes = {{.extent = 32768}}};
  const auto found = recommend(one_axis, {{256}, {128}}, 0.9375);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_THAT(found.front().window, ElementsAre(2048));
  EXPECT_THAT(found.front().stride, ElementsAre(256));
}

TEST(Recommend, FindsNothingCausalForTilesOfSeveralTokens) {
  const Problem causal{.axes = {{.extent = 64, .causal = true}}};
  EXPECT_TRUE(recommend(causal, {{4}, {4}}, 0.5, 0.5).empty());
}

TEST(Recommend, GivesUpWhereThereIsTooMuchToTry) {
  const Problem long_axis{.axes = {{.extent = 1 << 20}}};
  EXPECT_THAT(
      [&] {
        recommend(long_axis, {{256}, {128}}, 0.5);
      },
      ThrowsMessage<Error>(HasSubstr("there are more than 16777216 combinations to try")));
}

TEST(Recommend, RefusesSharesThatCannotBe) {
  EXPECT_THAT([] { recommend(kSmall, kSmallTiles, 90); },
              ThrowsMessage<Error>(HasSubstr("sparsity 90.000000 must be from 0 to 1")));
  EXPECT_THAT([] { recommend(kSmall, kSmallTiles, 0.5, -1); }, ThrowsMessage<Error>(HasSubstr("tolerance")));
}

}  // namespace
}  // namespace nalab::simulator
