// Problems of enough tokens for several tiles of a GPU, and few enough to be walked pair by pair.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "core/gpu/plan.h"

namespace nalab::gpu::test {

/// Layouts of one to three axes with odd and even windows, strides, dilations, causal axes and extra tokens.
class RandomPlanProblems {
 public:
  explicit RandomPlanProblems(uint64_t seed) : random_(seed) {}

  Problem next() {
    Problem problem;
    problem.type = ElementType::bf16;
    const int64_t rank = pick(1, 3);
    for (int64_t i = 0; i < rank; ++i) {
      Axis axis{.extent = rank == 1 ? pick(1, 700) : rank == 2 ? pick(1, 30) : pick(1, 12)};
      axis.dilation = pick(0, 2) > 0 ? 1 : pick(1, std::min<int64_t>(axis.extent, 3));
      axis.window = pick(0, 4) == 0 ? axis.extent / axis.dilation : pick(1, axis.extent / axis.dilation);
      axis.stride = pick(0, 1) == 0 ? 1 : pick(0, 2) == 0 ? axis.window : pick(1, axis.window);
      axis.causal = pick(0, 2) == 0;
      problem.axes.push_back(axis);
    }
    problem.extra_tokens = pick(0, 2) == 0 ? pick(1, 250) : 0;
    return problem;
  }

  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }

 private:
  std::mt19937_64 random_;
};

/// Awkward ones, and random ones.
inline std::vector<Problem> plan_problems() {
  std::vector<Problem> problems{
      {.axes = {{.extent = 1}}},
      {.axes = {{}, {}, {}}, .extra_tokens = 3},
      {.axes = {{.extent = 129, .window = 129}}},
      {.axes = {{.extent = 300, .window = 100, .stride = 100}}},
      // Blocks of many tiles that both warpgroups of a tile lie in, where one would have to skip for too long.
      {.axes = {{.extent = 1216, .window = 608, .stride = 608}}},
      {.axes = {{.extent = 24, .window = 16, .stride = 8}, {.extent = 32, .window = 24, .stride = 8}}},
      {.axes = {{.extent = 256, .window = 128, .stride = 128}}},
      {.axes = {{.extent = 16, .window = 8, .stride = 8}, {.extent = 32, .window = 16, .stride = 16}}},
      {.axes = {{.extent = 4, .window = 2, .stride = 2},
                {.extent = 16, .window = 8},
                {.extent = 16, .window = 8, .stride = 8}}},
      {.axes = {{.extent = 8, .window = 4, .stride = 4},
                {.extent = 12, .window = 8, .stride = 4},
                {.extent = 16, .window = 8}}},
      {.axes = {{.extent = 2, .window = 2}, {.extent = 3}, {.extent = 130, .window = 17}}},
      {.axes = {{.extent = 130, .window = 17}, {.extent = 2, .window = 2}, {.extent = 3}}},
      {.axes = {{.extent = 9, .window = 5, .causal = true},
                {.extent = 11, .window = 7, .causal = true},
                {.extent = 13, .window = 9}},
       .extra_tokens = 97},
  };
  RandomPlanProblems random(20261128);
  for (int i = 0; i < 24; ++i) problems.push_back(random.next());
  return problems;
}

/// Shapes for a problem: the best of each way to mask, and others that are far apart in the order of their time.
inline std::vector<TileShape> some_shapes(const Problem& problem, std::size_t others) {
  const std::vector<TileShape> all = tile_shapes(problem, {}, 1'000'000);
  std::vector<TileShape> some;
  for (const MaskMode mask : {MaskMode::none, MaskMode::one_hot, MaskMode::row_ranges}) {
    const auto best = std::ranges::find(all, mask, &TileShape::mask);
    if (best != all.end()) some.push_back(*best);
  }
  for (std::size_t i = 1; i <= others; ++i) some.push_back(all[i * (all.size() - 1) / others]);
  return some;
}

}  // namespace nalab::gpu::test
