#include "core/simulator/simulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <random>

#include "core/error.h"
#include "tests/core/simulator/brute_force.h"

namespace nalab::simulator {

// How GoogleTest shows a mismatch.
void PrintTo(const Simulation& s, std::ostream* out) {
  *out << "query tiles " << s.query_tiles << ", KV tiles " << s.tiles_total << ", visited worst "
       << s.tiles_visited_worst << ", visited " << s.tiles_visited << ", full " << s.tiles_full << ", attended "
       << s.attended_pairs << ", computed " << s.computed_pairs << ", all " << s.all_pairs;
}

namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr KvTiling kKvTilings[] = {KvTiling::static_tiles, KvTiling::dynamic_tiles};
constexpr TileRank kTileRanks[] = {TileRank::multi_dimensional, TileRank::single_dimensional};

std::string describe(const Problem& problem, const TileShapes& tiles) {
  std::string text = problem.id() + " q";
  for (const int64_t extent : tiles.query) text += " " + std::to_string(extent);
  text += " kv";
  for (const int64_t extent : tiles.kv) text += " " + std::to_string(extent);
  if (tiles.kv_tiling == KvTiling::dynamic_tiles) text += " dynamic";
  if (tiles.tile_rank == TileRank::single_dimensional) text += " single-dimensional";
  return text;
}

void expect_exact(const Problem& problem, const TileShapes& tiles) {
  const Simulation simulation = simulate(problem, tiles);
  ASSERT_EQ(simulation, brute_force::simulate(problem, tiles)) << describe(problem, tiles);
  ASSERT_EQ(simulation.attended_pairs, problem.attended_pairs());
  ASSERT_EQ(simulation.perfectly_block_sparse(), simulation.computed_pairs == simulation.attended_pairs);
}

/// Every valid axis of a length.
std::vector<Axis> all_axes(int64_t length) {
  std::vector<Axis> axes;
  for (int64_t dilation = 1; dilation <= length; ++dilation) {
    for (int64_t window = 1; window <= length / dilation; ++window) {
      for (int64_t stride = 1; stride <= window; ++stride) {
        for (const bool causal : {false, true}) axes.push_back({length, window, stride, dilation, causal});
      }
    }
  }
  return axes;
}

TEST(Simulator, IsExactForAllSmallCasesOfOneAxis) {
  for (const int64_t length : {1, 2, 3, 5, 7, 8, 11, 12}) {
    for (const Axis& axis : all_axes(length)) {
      for (const int64_t query : {1, 2, 3, 4, 13}) {
        for (const int64_t kv : {1, 2, 3, 5, 13}) {
          for (const KvTiling tiling : kKvTilings) {
            const Problem problem{.axes = {axis}};
            const TileShapes tiles{{query}, {kv}, tiling};
            expect_exact(problem, tiles);
            // Along one axis there is only one way to tile.
            TileShapes single = tiles;
            single.tile_rank = TileRank::single_dimensional;
            ASSERT_EQ(simulate(problem, single), simulate(problem, tiles)) << describe(problem, single);
          }
        }
      }
    }
  }
}

TEST(Simulator, IsExactForRandomLayoutsOfTwoAndThreeAxes) {
  std::mt19937 random(7);
  const auto pick = [&random](int64_t from, int64_t to) {
    return from + static_cast<int64_t>(random() % static_cast<uint64_t>(to - from + 1));
  };
  for (int round = 0; round < 3000; ++round) {
    const int64_t rank = pick(2, 3);
    Problem problem;
    TileShapes tiles;
    for (int64_t i = 0; i < rank; ++i) {
      Axis axis{.extent = pick(1, rank == 2 ? 9 : 5)};
      axis.dilation = pick(0, 2) == 0 ? pick(1, axis.extent) : 1;
      axis.window = pick(1, axis.extent / axis.dilation);
      axis.stride = pick(1, axis.window);
      axis.causal = pick(0, 3) == 0;
      problem.axes.push_back(axis);
      tiles.query.push_back(pick(1, 4));
      tiles.kv.push_back(pick(1, 4));
    }
    problem.extra_tokens = pick(0, 1) * pick(0, 20);
    for (const KvTiling kv_tiling : kKvTilings) {
      for (const TileRank tile_rank : kTileRanks) {
        tiles.kv_tiling = kv_tiling;
        tiles.tile_rank = tile_rank;
        expect_exact(problem, tiles);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Simulator, SelfAttentionGainsAndWastesNothing) {
  for (const TileRank rank : kTileRanks) {
    const Problem problem{.axes = {{.extent = 7, .window = 7}, {.extent = 10, .window = 10}}, .extra_tokens = 5};
    const Simulation s = simulate(problem, {{4, 4}, {3, 4}, KvTiling::static_tiles, rank});
    EXPECT_EQ(s.speedup_worst(), 1.0);
    EXPECT_EQ(s.speedup_mean(), 1.0);
    EXPECT_EQ(s.speedup_flops(), 1.0);
    EXPECT_EQ(s.wasted_share(), 0.0);
    EXPECT_TRUE(s.perfectly_block_sparse());
  }
}

Problem hunyuan(std::vector<int64_t> stride) {
  return {.axes = {{30, 18, stride[0]}, {48, 24, stride[1]}, {80, 24, stride[2]}},
          .heads = 24,
          .heads_kv = 24,
          .head_dim = 128,
          .head_dim_v = 128,
          .type = ElementType::bf16};
}

TEST(Simulator, TellsSlidingFromBlockSparse) {
  const TileShapes tiles{{4, 8, 8}, {2, 8, 8}};
  const Simulation sliding = simulate(hunyuan({1, 1, 1}), tiles);
  EXPECT_EQ(sliding.tiles_total, 900);
  EXPECT_EQ(sliding.tiles_visited_worst, 275);  // 11 x 5 x 5
  EXPECT_LT(sliding.tiles_visited_mean(), 275);
  EXPECT_GT(sliding.partial_tiles_share(), 0);
  EXPECT_GT(sliding.wasted_share(), 0);
  EXPECT_FALSE(sliding.perfectly_block_sparse());

  const Simulation strided = simulate(hunyuan({16, 8, 8}), tiles);
  EXPECT_EQ(strided.tiles_visited_worst, 81);
  EXPECT_EQ(strided.tiles_visited_mean(), 81);
  EXPECT_DOUBLE_EQ(strided.speedup_worst(), strided.speedup_flops());
  EXPECT_EQ(strided.partial_tiles_share(), 0);
  EXPECT_EQ(strided.wasted_share(), 0);
  EXPECT_TRUE(strided.perfectly_block_sparse());
}

TEST(Simulator, TilingTheFlattenedLayoutVisitsMore) {
  TileShapes tiles{{4, 8, 8}, {2, 8, 8}};
  const double multi = simulate(hunyuan({16, 8, 8}), tiles).speedup_worst();
  tiles.tile_rank = TileRank::single_dimensional;
  EXPECT_LT(simulate(hunyuan({16, 8, 8}), tiles).speedup_worst(), multi / 2);
}

TEST(Simulator, CountsExtraTokensAsFurtherFullTiles) {
  Problem problem = hunyuan({16, 8, 8});
  problem.extra_tokens = 129;  // two KV tiles of 128
  const Simulation s = simulate(problem, {{4, 8, 8}, {2, 8, 8}});
  EXPECT_EQ(s.tiles_total, 902);
  EXPECT_EQ(s.tiles_visited_worst, 83);
  EXPECT_TRUE(s.perfectly_block_sparse());
}

TEST(Simulator, RefusesWhatDoesNotFit) {
  const Problem problem{.axes = {{.extent = 8, .window = 4}, {.extent = 6, .window = 3}}};
  const auto message = [&problem](const TileShapes& tiles, const std::string& text) {
    EXPECT_THAT([&] { simulate(problem, tiles); }, ThrowsMessage<Error>(HasSubstr(text)));
  };
  message({{4}, {4, 4}}, "q_tile has 1 extents, but the layout 8x6 has 2 axes");
  message({{4, 4}, {4, 4, 4}}, "kv_tile has 3 extents, but the layout 8x6 has 2 axes");
  message({{4, 0}, {4, 4}}, "axis 2: q_tile 0 must be from 1 to 1048576");
  message({{4, 4}, {-1, 4}}, "axis 1: kv_tile -1 must be from 1 to 1048576");
  message({{4, 4}, {4, 1048577}}, "axis 2: kv_tile 1048577 must be from 1 to 1048576");

  const Problem wide_stride{.axes = {{.extent = 8, .window = 4, .stride = 5}}};
  EXPECT_THAT(
      [&] {
        simulate(wide_stride, {{4}, {4}});
      },
      ThrowsMessage<Error>(HasSubstr("axis 1: stride 5 must be at most 4")));

  const Problem huge{.axes = {{.extent = 1 << 20, .window = 1}, {.extent = 1 << 20, .window = 1}}};
  EXPECT_THAT([&] { simulate(huge, {{4, 4}, {4, 4}}); }, ThrowsMessage<Error>(HasSubstr("64 bits")));
}

TEST(EndToEnd, FollowsAmdahl) {
  EXPECT_DOUBLE_EQ(end_to_end_speedup(4.0, {}), 4.0);
  EXPECT_DOUBLE_EQ(end_to_end_speedup(4.0, {.attention_share = 0}), 1.0);
  EXPECT_DOUBLE_EQ(end_to_end_speedup(4.0, {.attention_share = 0.5}), 1 / (0.5 + 0.125));
  EXPECT_DOUBLE_EQ(end_to_end_speedup(4.0, {.attention_share = 0.5, .steps = 10, .dense_steps = 5}),
                   1 / (0.75 + 0.0625));
  EXPECT_DOUBLE_EQ(end_to_end_speedup(4.0, {.attention_share = 0.5, .steps = 10, .dense_steps = 10}), 1.0);
}

TEST(EndToEnd, RefusesSharesAndStepsThatCannotBe) {
  const auto message = [](const Application& application, const std::string& text) {
    EXPECT_THAT([&] { end_to_end_speedup(2.0, application); }, ThrowsMessage<Error>(HasSubstr(text)));
  };
  message({.attention_share = 1.5}, "attention_share 1.500000 must be from 0 to 1");
  message({.attention_share = std::nan("")}, "attention_share nan must be from 0 to 1");
  message({.steps = 0}, "steps 0 must be at least 1");
  message({.steps = 5, .dense_steps = 6}, "dense_steps 6 must be from 0 to the steps, 5");
  message({.dense_steps = -1}, "dense_steps -1 must be from 0");
}

TEST(EndToEnd, RoundsToOneDecimalAsPublished) {
  EXPECT_DOUBLE_EQ(round_as_published(9.0909), 9.1);
  EXPECT_DOUBLE_EQ(round_as_published(1.4286), 1.4);
}

TEST(TokenPermutation, MovesEachByteTwice) {
  // q, k, v and out of 115200 tokens, 24 heads of 128 in two bytes, read and written.
  EXPECT_DOUBLE_EQ(token_permutation_bytes(hunyuan({1, 1, 1})), 2.0 * 4 * 115200 * 24 * 128 * 2);
  // Tiles along one axis are contiguous as they are, unless dilation pulls them apart.
  Problem one_axis{.axes = {{.extent = 64, .window = 8}}, .head_dim = 16, .head_dim_v = 8};
  EXPECT_EQ(token_permutation_bytes(one_axis), 0.0);
  one_axis.axes[0].dilation = 2;
  EXPECT_EQ(token_permutation_bytes(one_axis), 2.0 * 4 * 64 * (2 * 16 + 2 * 8));
}

}  // namespace
}  // namespace nalab::simulator
