// Plans of whole problems: walked as a kernel walks them, against the text of the contract.
#include "core/gpu/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "tests/core/definition.h"
#include "tests/core/gpu/problems.h"
#include "tests/core/gpu/rings.h"
#include "tests/core/gpu/walk.h"
#include "tests/core/support.h"

namespace nalab::gpu {
namespace {

using test::Block;
using test::Box;
using test::Positions;

/// Coordinates in the layout of a position in a block's dilation group.
Positions coordinates(const Block& block, const Problem& problem, Positions position) {
  const auto axes = problem.axes3();
  for (std::size_t x = 0; x < kAxisCount; ++x) position[x] = position[x] * axes[x].dilation + block.group().first[x];
  return position;
}

/// Each attended pair lies in exactly one visited tile with bias 0; each other pair of a visited tile is far below.
void expect_pairs(const Problem& problem, const TilePlan& plan) {
  SCOPED_TRACE(problem.id() + " " + to_string(plan.shape()));
  const nalab::test::LayoutMask mask(problem);
  std::vector<int> queries(static_cast<std::size_t>(problem.tokens()));
  const auto axes = problem.axes3();
  int64_t attended = 0, wrong = 0, visits = 0;
  for (const QueryTile& tile : plan.query_tiles) {
    const Block block{plan, tile};
    for (int w = 0; w < kWarpgroups; ++w) {
      bool any_query = false;
      for (int q = 0; q < kWarpgroupQueries; ++q) {
        const Positions query = block.query(w, q);
        if (!block.inside(query)) continue;
        any_query = true;
        const Positions at = coordinates(block, problem, query);
        ++queries[static_cast<std::size_t>((at[0] * axes[1].extent + at[1]) * axes[2].extent + at[2])];
      }
      EXPECT_EQ(block.active(w), any_query);
      if (any_query) visits += plan.header.extra_tiles;
    }
    std::vector<std::vector<bool>> seen(kTileQueries, std::vector<bool>(static_cast<std::size_t>(problem.tokens())));
    test::for_each_box(block, [&](const Box& box) {
      EXPECT_TRUE(block.visits(0, box) || block.visits(1, box)) << "a box that nobody needs";
      for (int w = 0; w < kWarpgroups; ++w) {
        if (!block.visits(w, box)) continue;
        ++visits;
        const test::Bias bias(block, w, box);
        for (int q = 0; q < kWarpgroupQueries; ++q) {
          const Positions query = block.query(w, q);
          if (!block.inside(query)) continue;
          const Positions from = coordinates(block, problem, query);
          for (int n = 0; n < plan.shape().keys; ++n) {
            const Positions key = block.key(box, n);
            const Positions to = coordinates(block, problem, key);
            const bool attends = block.inside(key) && mask.attends(from, to);
            const float b = bias.of(q, n);
            wrong += attends ? b != 0 : !(b <= kMasked);
            attended += attends ? 1 : 0;
            if (!attends) continue;
            const auto index = static_cast<std::size_t>((to[0] * axes[1].extent + to[1]) * axes[2].extent + to[2]);
            auto&& before = seen[static_cast<std::size_t>(w * kWarpgroupQueries + q)][index];
            wrong += before ? 1 : 0;
            before = true;
          }
        }
      }
    });
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(queries, std::vector<int>(queries.size(), 1));
  EXPECT_EQ(attended, problem.attended_pairs() - problem.tokens() * problem.extra_tokens);
  EXPECT_EQ(visits, plan.visits);
}

TEST(TilePlan, EachAttendedPairOnceAndEachOtherOneMasked) {
  int modes[3] = {};
  for (const Problem& problem : test::plan_problems()) {
    for (const TileShape& shape : test::some_shapes(problem, 1)) {
      const TilePlan plan = make_tile_plan(problem, shape);
      ++modes[static_cast<int>(shape.mask)];
      expect_pairs(problem, plan);
      if (HasFailure()) return;
    }
  }
  for (const int problems : modes) EXPECT_GE(problems, 3);
}

TEST(TilePlan, NoThreadBlockStandsStill) {
  for (const Problem& problem : test::plan_problems()) {
    for (TileShape shape : test::some_shapes(problem, 4)) {
      const TilePlan plan = make_tile_plan(problem, shape);
      std::vector<test::ItemTiles> all, third;
      for (const QueryTile& tile : plan.query_tiles) {
        all.emplace_back(Block{plan, tile});
        if (all.size() % 3 == 1) third.push_back(all.back());
      }
      for (const int turns : {0, 1}) {
        shape.ping_pong = turns;
        EXPECT_TRUE(test::Rings(shape).finishes(all)) << problem.id() << " " << to_string(shape);
        EXPECT_TRUE(test::Rings(shape).finishes(third)) << problem.id() << " " << to_string(shape);
      }
    }
  }
}

TileShape shape_of_rings(int stages, int turns) {
  TileShape shape{};
  shape.stages = stages;
  shape.ping_pong = turns;
  shape.mask = MaskMode::one_hot;
  return shape;
}

TEST(Rings, SkipsOfAnyLengthEndBecauseWhatIsPendingIsFinishedBefore) {
  for (int stages = 2; stages <= 4; ++stages) {
    for (int length = 1; length <= 12; ++length) {
      for (const std::size_t skips : {0, 1}) {
        std::vector<std::array<bool, kWarpgroups>> row(static_cast<std::size_t>(length + 4), {true, true});
        for (int t = 2; t < 2 + length; ++t) row[static_cast<std::size_t>(t)][skips] = false;
        const std::vector<test::ItemTiles> items(3, test::ItemTiles(row));
        for (const int turns : {0, 1}) {
          const TileShape shape = shape_of_rings(stages, turns);
          EXPECT_TRUE(test::Rings(shape).finishes(items)) << stages << " stages, " << length;
          // A stage that is held is missed by the other warpgroup once the keys have gone twice around their ring.
          const bool finishes = test::Rings(shape, test::Order::skips_with_product_pending).finishes(items);
          if (length == 1 || length > 2 * stages) {
            EXPECT_EQ(finishes, length == 1) << stages << " stages, " << length;
          }
        }
      }
    }
  }
}

/// A warpgroup needs its queries until its last keys have come.
TEST(Rings, QueriesOfTheNextItemAreLoadedAfterTheLastKeys) {
  for (const int turns : {0, 1}) {
    for (const std::size_t tiles : {1, 2, 7}) {
      const TileShape shape = shape_of_rings(2, turns);
      const std::vector<test::ItemTiles> items(
          2, test::ItemTiles(std::vector<std::array<bool, kWarpgroups>>(tiles, {true, true})));
      EXPECT_TRUE(test::Rings(shape).finishes(items));
      EXPECT_FALSE(test::Rings(shape, test::Order::queries_before_last_keys).finishes(items));
    }
  }
}

TEST(TilePlan, HeavyTilesFirst) {
  for (const Problem& problem : test::plan_problems()) {
    const TilePlan plan = make_tile_plan(problem);
    EXPECT_EQ(plan.header.query_tiles, static_cast<int32_t>(plan.query_tiles.size()));
    int64_t before = std::numeric_limits<int64_t>::max();
    for (const QueryTile& tile : plan.query_tiles) {
      const Block block{plan, tile};
      int64_t visits = 0;
      test::for_each_box(block, [&](const Box& box) { visits += block.visits(0, box) + block.visits(1, box); });
      visits += (block.active(0) + block.active(1)) * plan.header.extra_tiles;
      EXPECT_LE(visits, before) << problem.id();
      before = visits;
    }
  }
}

TEST(TilePlan, GroupsAreTheDilationGroupsInRowMajorOrder) {
  const Problem problem{
      .axes = {{.extent = 7, .window = 2, .dilation = 2}, {.extent = 11, .window = 3, .dilation = 3}}};
  const TilePlan plan = make_tile_plan(problem);
  ASSERT_EQ(plan.groups.size(), 6u);
  for (int g = 0; g < 6; ++g) {
    const Group& group = plan.groups[static_cast<std::size_t>(g)];
    EXPECT_EQ(std::vector(group.first, group.first + 3), (std::vector{0, g / 3, g % 3}));
    EXPECT_EQ(std::vector(group.length, group.length + 3), (std::vector{1, g / 3 == 0 ? 4 : 3, g % 3 == 2 ? 3 : 4}));
  }
}

TEST(TilePlan, CountsWhatIsExecuted) {
  // One tile of 128 queries in a row, two boxes of 112 keys, and one of extra tokens. Channels are padded alike.
  const Problem problem{.axes = {{.extent = 128, .window = 128}},
                        .batch = 3,
                        .heads = 2,
                        .head_dim = 40,
                        .head_dim_v = 128,
                        .extra_tokens = 5};
  for (const TileShape& shape : tile_shapes(problem, {}, 100)) {
    if (shape.keys != 112) continue;
    const TilePlan plan = make_tile_plan(problem, shape);
    EXPECT_EQ(plan.visits, 2 * (2 + 1));
    EXPECT_EQ(executed_flops(plan, problem), 3 * 2 * (2 * 3 * 64 * 112) * 2 * (128 + 128));
  }
  for (const Problem& p : test::plan_problems()) {
    EXPECT_GE(executed_flops(make_tile_plan(p), p), p.useful_flops(Pass::forward)) << p.id();
  }
}

TEST(TilePlan, TooManyTokensAreRefused) {
  const Problem most{.axes = {{.extent = int64_t{1} << 30}}};
  EXPECT_FALSE(cannot_plan(most));
  const Problem more{.axes = {{.extent = (int64_t{1} << 30) + 1}}};
  EXPECT_EQ(cannot_plan(more), "takes at most 1073741824 tokens, since its plan counts them in 32 bits");
  Problem extra = most;
  extra.axes[0].extent = 1;
  extra.extra_tokens = (int64_t{1} << 30) + 1;
  EXPECT_TRUE(cannot_plan(extra));
}

}  // namespace
}  // namespace nalab::gpu
