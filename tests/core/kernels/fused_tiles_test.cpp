// The tiles of the fused kernel: what they visit, counted by brute force.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "core/kernels/fused/tiles.h"
#include "core/kernels/reference.h"
#include "tests/core/kernels/problems.h"

namespace nalab::fused {
namespace {

/// Pairs that micro tiles visit along one axis of a dilation group: positions of the group, query tile by query tile,
/// in whole KV tiles that hold an attended key.
int64_t visited_along(const Axis& axis, int64_t residue, int64_t tile, int64_t kv_tile) {
  std::vector<int64_t> tokens;
  for (int64_t x = residue; x < axis.extent; x += axis.dilation) tokens.push_back(x);
  const auto length = static_cast<int64_t>(tokens.size());
  int64_t visited = 0;
  for (int64_t begin = 0; begin < length; begin += tile) {
    std::set<int64_t> kv_tiles;
    for (int64_t q = begin; q < std::min(begin + tile, length); ++q) {
      for (int64_t k = 0; k < length; ++k) {
        if (reference::attends(axis, tokens[static_cast<std::size_t>(q)], tokens[static_cast<std::size_t>(k)])) {
          kv_tiles.insert(k / kv_tile);
        }
      }
    }
    for (const int64_t t : kv_tiles) visited += std::min((t + 1) * kv_tile, length) - t * kv_tile;
  }
  return visited;
}

int64_t brute_force_pairs(const Problem& problem, const Tiles& tiles) {
  int64_t keys = 1, query_tiles = 1;
  const auto axes = problem.axes3();
  for (int axis = 0; axis < 3; ++axis) {
    int64_t along = 0, count = 0;
    for (int64_t residue = 0; residue < axes[axis].dilation; ++residue) {
      along += visited_along(axes[axis], residue, tiles.micro[axis], tiles.kv[axis]);
      // Every group is cut as the longest one is.
      count += geometry::ceil_div(geometry::ceil_div(axes[axis].extent, axes[axis].dilation), tiles.micro[axis]);
    }
    keys *= along;
    query_tiles *= count;
  }
  return tiles.lanes * (keys + query_tiles * problem.extra_tokens);
}

TEST(FusedTiles, VisitedPairsAreThoseOfBruteForceWithBothKvTilings) {
  test::RandomProblems problems(16922);
  for (int i = 0; i < 300; ++i) {
    const Problem problem = problems.next();
    for (const KvTiling tiling : {KvTiling::dynamic_tiles, KvTiling::static_tiles}) {
      const Tiles tiles = choose_tiles(problem, Pass::forward, tiling);
      EXPECT_EQ(visited_pairs(problem, tiles), brute_force_pairs(problem, tiles)) << problem.id();
    }
  }
}

TEST(FusedTiles, StaticKvTilesAreAsLargeAsTheQueryTile) {
  const Problem problem{
      .axes = {{.extent = 30, .window = 18}, {.extent = 48, .window = 24}, {.extent = 80, .window = 24}}};
  const Tiles dynamic = choose_tiles(problem), fixed = choose_tiles(problem, Pass::forward, KvTiling::static_tiles);
  EXPECT_EQ(dynamic.kv, (std::array<int64_t, 3>{1, 1, 1}));
  EXPECT_EQ(fixed.kv, fixed.micro);
  EXPECT_EQ(fixed.micro, dynamic.micro);
  EXPECT_GT(visited_pairs(problem, fixed), visited_pairs(problem, dynamic));
}

TEST(FusedTiles, StridesThatAreWholeTilesWasteNothing) {
  const Problem problem{.axes = {{.extent = 30, .window = 18, .stride = 16},
                                 {.extent = 48, .window = 24, .stride = 8},
                                 {.extent = 80, .window = 24, .stride = 8}}};
  EXPECT_EQ(visited_pairs(problem, choose_tiles(problem)), problem.attended_pairs());
}

}  // namespace
}  // namespace nalab::fused
