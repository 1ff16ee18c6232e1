// Tilings and their order: what they visit, counted by brute force; which they are on a known machine.
#include "core/tuning/cost_model.h"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <string>
#include <vector>

#include "core/kernels/reference/reference.h"
#include "core/kernels/registry.h"
#include "tests/core/kernels/problems.h"

namespace nalab::tuning {
namespace {

using geometry::KvTiling;

constexpr KvTiling kKvTilings[] = {KvTiling::dynamic_tiles, KvTiling::static_tiles};
constexpr Machine kMachine{48 << 10, 1 << 20, 32 << 20};

/// Pairs that query tiles visit along one axis of a dilation group: positions of the group, query tile by query tile,
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

int64_t brute_force_pairs(const Problem& problem, const Tiling& tiling) {
  int64_t keys = 1, query_tiles = 1;
  const auto axes = problem.axes3();
  for (int axis = 0; axis < 3; ++axis) {
    int64_t along = 0, count = 0;
    for (int64_t residue = 0; residue < axes[axis].dilation; ++residue) {
      along += visited_along(axes[axis], residue, tiling.query[axis], tiling.kv[axis]);
      // Every group is cut as the longest one is.
      count += geometry::ceil_div(geometry::ceil_div(axes[axis].extent, axes[axis].dilation), tiling.query[axis]);
    }
    keys *= along;
    query_tiles *= count;
  }
  return tiling.lanes * (keys + query_tiles * problem.extra_tokens);
}

Tiling best(const Problem& problem, Pass pass = Pass::forward, KvTiling kv_tiling = KvTiling::dynamic_tiles,
            const Machine& machine = kMachine) {
  return candidates(problem, pass, find_arithmetic(kF32Fma), kv_tiling, machine, 1).front();
}

TEST(CostModel, VisitedPairsAreThoseOfBruteForceWithBothKvTilings) {
  test::RandomProblems problems(16922);
  for (int i = 0; i < 300; ++i) {
    const Problem problem = problems.next();
    for (const KvTiling kv_tiling : kKvTilings) {
      const Tiling tiling = best(problem, Pass::forward, kv_tiling);
      EXPECT_EQ(visited_pairs(problem, tiling), brute_force_pairs(problem, tiling)) << problem.id();
    }
  }
}

TEST(CostModel, StaticKvTilesAreAsLargeAsTheQueryTile) {
  const Problem problem{
      .axes = {{.extent = 30, .window = 18}, {.extent = 48, .window = 24}, {.extent = 80, .window = 24}}};
  const Tiling dynamic = best(problem), fixed = best(problem, Pass::forward, KvTiling::static_tiles);
  EXPECT_EQ(dynamic.kv, (std::array<int64_t, 3>{1, 1, 1}));
  EXPECT_FALSE(dynamic.has_static_kv());
  EXPECT_EQ(fixed.kv, fixed.query);
  EXPECT_TRUE(fixed.has_static_kv());
  EXPECT_EQ(fixed.query, dynamic.query);
  EXPECT_GT(visited_pairs(problem, fixed), visited_pairs(problem, dynamic));
}

TEST(CostModel, StridesThatAreWholeTilesWasteNothing) {
  const Problem problem{.axes = {{.extent = 30, .window = 18, .stride = 16},
                                 {.extent = 48, .window = 24, .stride = 8},
                                 {.extent = 80, .window = 24, .stride = 8}}};
  EXPECT_EQ(visited_pairs(problem, best(problem)), problem.attended_pairs());
}

TEST(CostModel, CandidatesAreDifferentFitTheKernelsAndBeginWithTheSameOnes) {
  test::RandomProblems problems(7);
  for (int i = 0; i < 100; ++i) {
    const Problem problem = problems.next();
    for (const Pass pass : {Pass::forward, Pass::backward}) {
      for (const KvTiling kv_tiling : kKvTilings) {
        const auto all = candidates(problem, pass, find_arithmetic(kF32Fma), kv_tiling, kMachine, kAllCandidates);
        ASSERT_EQ(all.size(), 36u) << "three powers of two of product 32, and of 16: 21 + 15";
        std::set<std::string> texts;
        for (const Tiling& tiling : all) {
          EXPECT_TRUE(texts.insert(tiling.to_string()).second) << tiling.to_string();
          EXPECT_EQ(tiling.query[0] * tiling.query[1] * tiling.query[2], tiling.lanes);
          EXPECT_EQ((problem.heads / problem.heads_kv) % tiling.heads, 0);
          EXPECT_LE(tiling.query_tiles(), kMaxQueryTiles);
          EXPECT_EQ(tiling.block_keys % 8, 0);
          EXPECT_LE(tiling.block_keys, kMaxBlockKeys);
          EXPECT_FALSE(tiling.flat);
        }
        for (const std::size_t most : {0, 1, 5}) {
          const auto some = candidates(problem, pass, find_arithmetic(kF32Fma), kv_tiling, kMachine, most);
          EXPECT_EQ(some, std::vector<Tiling>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(most)));
        }
      }
    }
  }
}

TEST(CostModel, CandidatesOfAsManyLanesAreInOrderOfTheKeysTheyVisit) {
  test::RandomProblems problems(8);
  for (int i = 0; i < 100; ++i) {
    const Problem problem = problems.next();
    int64_t visited[2] = {0, 0};
    for (const Tiling& tiling : candidates(problem, Pass::forward, find_arithmetic(kF32Fma), KvTiling::dynamic_tiles,
                                           kMachine, kAllCandidates)) {
      int64_t& last = visited[tiling.lanes == 32 ? 0 : 1];
      const int64_t pairs = visited_pairs(problem, tiling);
      EXPECT_GE(pairs, last) << problem.id() << " " << tiling.to_string();
      last = pairs;
    }
  }
}

TEST(CostModel, SmallerCachesGiveSmallerTilesAndLargerOnesTheSame) {
  const Problem problem{.axes = {{.extent = 256, .window = 80}, {.extent = 256, .window = 80}},
                        .heads = 4,
                        .head_dim = 128,
                        .head_dim_v = 128};
  const auto bytes = [](const Tiling& t) { return t.query_tiles() * t.lanes; };
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    const Tiling measured = best(problem, pass);
    for (const Machine& larger :
         {Machine{64 << 10, 2 << 20, 64 << 20}, Machine{0, 0, 0}, Machine{32 << 10, 1 << 20, 0}}) {
      EXPECT_EQ(best(problem, pass, KvTiling::dynamic_tiles, larger), measured) << "larger or unknown";
    }
    const Tiling quarter = best(problem, pass, KvTiling::dynamic_tiles, {32 << 10, 256 << 10, 32 << 20});
    EXPECT_LT(bytes(quarter), bytes(measured));
    EXPECT_LT(quarter.block_keys, measured.block_keys);
    EXPECT_EQ(quarter.query, measured.query) << "which is not a matter of caches";
    const Tiling tiny = best(problem, pass, KvTiling::dynamic_tiles, {4 << 10, 16 << 10, 0});
    EXPECT_EQ(tiny.query_tiles(), 1);
    EXPECT_EQ(tiny.block_keys, 64);
  }
  // Many channels make blocks small whatever the first-level cache is, few make it decide.
  const Problem narrow{.axes = problem.axes, .head_dim = 8, .head_dim_v = 8};
  EXPECT_LT(best(narrow, Pass::forward, KvTiling::dynamic_tiles, {16 << 10, 1 << 20, 0}).block_keys,
            best(narrow).block_keys);
}

struct Golden {
  const char* name;
  Problem problem;
  const char* forward;
  const char* backward;
};

void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.name; }

class GoldenTilings : public ::testing::TestWithParam<Golden> {};

// A change here changes what runs and the bits of results, and needs new measurements.
TEST_P(GoldenTilings, AreTheFirstCandidates) {
  EXPECT_EQ(best(GetParam().problem, Pass::forward).to_string(), GetParam().forward);
  EXPECT_EQ(best(GetParam().problem, Pass::backward).to_string(), GetParam().backward);
}

INSTANTIATE_TEST_SUITE_P(
    CostModel, GoldenTilings,
    ::testing::Values(
        Golden{"nat",
               {.axes = {{56, 7}, {56, 7}}, .batch = 8, .heads = 2, .heads_kv = 2, .head_dim = 32, .head_dim_v = 32},
               "q1x4x4_s1x5x3_kv1x1x1_l16_h1_b512",
               "q1x4x4_s1x5x3_kv1x1x1_l16_h1_b408"},
        Golden{"dinat",
               {.axes = {{56, 7, 1, 8}, {56, 7, 1, 8}}, .heads = 2, .heads_kv = 2, .head_dim = 32, .head_dim_v = 32},
               "q1x4x8_s1x2x1_kv1x1x1_l32_h1_b256",
               "q1x4x8_s1x2x1_kv1x1x1_l32_h1_b256"},
        Golden{"one_axis",
               {.axes = {{8192, 512}}, .head_dim = 128, .head_dim_v = 128},
               "q1x1x32_s1x1x16_kv1x1x1_l32_h1_b256",
               "q1x1x32_s1x1x4_kv1x1x1_l32_h1_b96"},
        Golden{"short_window",
               {.axes = {{8192, 3}}, .head_dim = 64, .head_dim_v = 64},
               "q1x1x16_s1x1x16_kv1x1x1_l16_h1_b512",
               "q1x1x16_s1x1x16_kv1x1x1_l16_h1_b200"},
        Golden{"causal_gqa",
               {.axes = {{4096, 1024, 1, 1, true}},
                .heads = 24,
                .heads_kv = 2,
                .head_dim = 64,
                .head_dim_v = 64,
                .extra_tokens = 100},
               "q1x1x32_s1x1x1_kv1x1x1_l32_h12_b256",
               "q1x1x32_s1x1x1_kv1x1x1_l32_h12_b200"},
        Golden{
            "flux",
            {.axes = {{256, 80, 16}, {256, 80, 16}}, .heads = 24, .heads_kv = 24, .head_dim = 128, .head_dim_v = 128},
            "q1x2x16_s1x16x1_kv1x1x1_l32_h1_b256",
            "q1x2x16_s1x6x1_kv1x1x1_l32_h1_b96"},
        Golden{
            "hunyuan",
            {.axes = {{30, 18}, {48, 24}, {80, 24}}, .heads = 24, .heads_kv = 24, .head_dim = 128, .head_dim_v = 128},
            "q2x4x4_s5x3x1_kv1x1x1_l32_h1_b256",
            "q2x4x4_s3x2x1_kv1x1x1_l32_h1_b96"},
        Golden{"few_tokens",
               {.axes = {{3, 2}, {5, 3}, {2, 1}}, .head_dim = 4, .head_dim_v = 300},
               "q2x8x1_s1x1x1_kv1x1x1_l16_h1_b208",
               "q2x8x1_s1x1x1_kv1x1x1_l16_h1_b104"}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace nalab::tuning
