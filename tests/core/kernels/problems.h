// The problems that every variant is tested on: awkward ones, and random ones.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "core/kernels/registry.h"
#include "tests/core/kernels/support.h"

namespace nalab::test {

/// The problem that a variant runs in place of another one.
inline Problem problem_of(const Variant& variant, const Problem& problem) {
  return variant.self_attention_only ? problem.self_attention() : problem;
}

/// A problem with a name for its test.
struct Awkward {
  const char* name;
  Problem problem;
};
inline void PrintTo(const Awkward& awkward, std::ostream* out) { *out << awkward.name; }

inline std::vector<Awkward> awkward_problems() {
  const std::vector<Axis> plane{{.extent = 7, .window = 3}, {.extent = 5, .window = 4}};
  return {
      {"prime", {.axes = {{.extent = 97, .window = 13}}, .heads = 2, .heads_kv = 2, .head_dim = 32, .head_dim_v = 32}},
      {"one_token", {.axes = {{}}, .batch = 5, .heads = 6, .heads_kv = 3, .head_dim = 16, .head_dim_v = 8}},
      {"one_token_in_three_axes",
       {.axes = {{}, {}, {}}, .batch = 7, .heads = 4, .heads_kv = 1, .head_dim = 5, .extra_tokens = 3}},
      {"window_one", {.axes = {{.extent = 31}}, .heads = 2, .heads_kv = 1, .head_dim = 24, .head_dim_v = 9}},
      {"window_is_extent", {.axes = {{.extent = 37, .window = 37}}, .heads = 3, .head_dim = 64, .head_dim_v = 40}},
      {"window_is_extent_in_a_plane",
       {.axes = {{.extent = 7, .window = 7}, {.extent = 11, .window = 11, .stride = 4}}, .batch = 2}},
      {"window_is_extent_in_space",
       {.axes = {{.extent = 3, .window = 3}, {.extent = 1}, {.extent = 9, .window = 9, .stride = 9}},
        .heads = 2,
        .extra_tokens = 5}},
      {"window_is_extent_causal_beside_extra_tokens",
       {.axes = {{.extent = 4, .window = 2}, {.extent = 64, .window = 64, .causal = true}},
        .head_dim = 16,
        .head_dim_v = 16,
        .extra_tokens = 4}},
      {"window_is_extent_causal", {.axes = {{.extent = 19, .window = 19, .stride = 5, .causal = true}}}},
      {"even_window_last_stride_group_cut", {.axes = {{.extent = 29, .window = 8, .stride = 3}}}},
      {"blocked_last_block_cut", {.axes = {{.extent = 22, .window = 8, .stride = 8}}, .heads = 2, .heads_kv = 2}},
      {"blocked_causal", {.axes = {{.extent = 22, .window = 6, .stride = 6, .causal = true}}}},
      {"ragged_dilation",
       {.axes = {{.extent = 23, .window = 3, .stride = 2, .dilation = 5, .causal = true},
                 {.extent = 10, .window = 2, .dilation = 4}}}},
      {"each_token_its_own_group", {.axes = {{.extent = 17, .dilation = 17}}, .batch = 3, .extra_tokens = 1}},
      {"causal_along_one_axis_of_two",
       {.axes = {{.extent = 13, .window = 5}, {.extent = 11, .window = 4, .stride = 3, .causal = true}}}},
      {"partial_tiles_on_every_axis",
       {.axes = {{.extent = 5, .window = 3}, {.extent = 9, .window = 5}, {.extent = 11, .window = 5}},
        .head_dim = 12,
        .head_dim_v = 36}},
      {"last_stride_group_cut_on_every_axis",
       {.axes = {{.extent = 5, .window = 3, .stride = 3},
                 {.extent = 7, .window = 4, .stride = 4, .causal = true},
                 {.extent = 8, .window = 5, .stride = 3}},
        .head_dim = 40,
        .head_dim_v = 11}},
      {"space_of_all_kinds",
       {.axes = {{.extent = 5, .window = 3, .stride = 2},
                 {.extent = 7, .window = 3, .dilation = 2},
                 {.extent = 6, .window = 4, .stride = 4, .causal = true}},
        .heads = 4,
        .heads_kv = 2,
        .head_dim = 20,
        .head_dim_v = 28}},
      {"mqa", {.axes = plane, .batch = 2, .heads = 5, .heads_kv = 1, .head_dim = 16, .head_dim_v = 16}},
      {"gqa_more_extra_tokens_than_keys",
       {.axes = plane, .batch = 2, .heads = 6, .heads_kv = 2, .head_dim = 16, .head_dim_v = 16, .extra_tokens = 37}},
      {"head_dim_1", {.axes = plane, .heads = 3, .head_dim = 1, .head_dim_v = 1}},
      {"head_dim_13", {.axes = plane, .heads = 3, .head_dim = 13, .head_dim_v = 7}},
      {"head_dim_80", {.axes = plane, .heads = 2, .head_dim = 80, .head_dim_v = 96, .extra_tokens = 1}},
      {"head_dim_256", {.axes = plane, .heads = 2, .head_dim = 256, .head_dim_v = 256}},
      {"head_dim_v_1", {.axes = plane, .head_dim = 33, .head_dim_v = 1}},
      {"scale_negative", {.axes = plane, .head_dim = 16, .head_dim_v = 16, .scale = -0.4}},
      {"scale_zero", {.axes = plane, .head_dim = 16, .head_dim_v = 16, .extra_tokens = 2, .scale = 0.0}},
      {"scale_zero_one_key", {.axes = {{.extent = 7}}, .head_dim = 16, .head_dim_v = 16, .scale = 0.0}},
      {"scale_large", {.axes = plane, .head_dim = 16, .head_dim_v = 16, .scale = 50.0}},
      // Many blocks of keys, the first of which some queries attend to nothing of.
      {"scale_huge",
       {.axes = {{.extent = 33, .window = 9}, {.extent = 35, .window = 9}},
        .head_dim = 8,
        .head_dim_v = 8,
        .scale = 1e30}},
      {"bias_on_one_axis",
       {.axes = {{.extent = 41, .window = 12, .stride = 5}},
        .heads = 3,
        .heads_kv = 3,
        .head_dim = 24,
        .head_dim_v = 24,
        .relative_bias = true}},
      {"bias_even_windows_and_all_else",
       {.axes = {{.extent = 11, .window = 4, .stride = 3}, {.extent = 13, .window = 6, .dilation = 2, .causal = true}},
        .batch = 2,
        .heads = 6,
        .heads_kv = 2,
        .head_dim = 12,
        .head_dim_v = 20,
        .extra_tokens = 5,
        .relative_bias = true}},
      {"bias_in_space",
       {.axes = {{.extent = 5, .window = 3, .stride = 2},
                 {.extent = 7, .window = 2, .dilation = 3},
                 {.extent = 6, .window = 5, .stride = 4, .causal = true}},
        .heads = 4,
        .heads_kv = 2,
        .head_dim = 20,
        .head_dim_v = 9,
        .relative_bias = true,
        .scale = -0.4}},
      {"bias_of_more_lanes_than_keys",
       {.axes = {{.extent = 3, .window = 2}, {.extent = 67, .window = 33, .stride = 2}},
        .head_dim = 7,
        .head_dim_v = 16,
        .relative_bias = true}},
      {"bias_window_one",
       {.axes = {{.extent = 31}},
        .heads = 2,
        .head_dim = 24,
        .head_dim_v = 9,
        .extra_tokens = 2,
        .relative_bias = true}},
      {"bias_of_one_key", {.axes = {{.extent = 5}, {.extent = 4}}, .heads = 2, .relative_bias = true}},
      {"bias_each_token_its_own_group",
       // Enough rows that the few sums of drpb are not by chance small against their terms.
       {.axes = {{.extent = 17, .dilation = 17}, {.extent = 4, .window = 3}},
        .batch = 4,
        .heads = 4,
        .relative_bias = true}},
      {"bias_window_is_extent",
       {.axes = {{.extent = 37, .window = 37}}, .heads = 3, .head_dim = 16, .head_dim_v = 40, .relative_bias = true}},
      {"bias_window_is_extent_in_a_plane",
       {.axes = {{.extent = 7, .window = 7}, {.extent = 10, .window = 10, .stride = 4}},
        .batch = 2,
        .heads = 2,
        .relative_bias = true}},
      {"bias_window_is_extent_in_space",
       {.axes = {{.extent = 3, .window = 3}, {.extent = 1}, {.extent = 9, .window = 9, .stride = 9}},
        .heads = 2,
        .extra_tokens = 5,
        .relative_bias = true}},
      {"bias_window_is_extent_causal",
       {.axes = {{.extent = 19, .window = 19, .stride = 5, .causal = true}}, .heads = 2, .relative_bias = true}},
      {"bias_scale_zero",
       {.axes = plane, .head_dim = 16, .head_dim_v = 16, .extra_tokens = 2, .relative_bias = true, .scale = 0.0}},
      {"bias_scale_large", {.axes = plane, .head_dim = 16, .head_dim_v = 16, .relative_bias = true, .scale = 50.0}},
  };
}

/// Small valid problems of all kinds.
class RandomProblems {
 public:
  explicit RandomProblems(uint64_t seed) : random_(seed), bias_(seed) {}

  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }

  Problem next() {
    Problem problem;
    const int64_t rank = pick(1, 3);
    for (int64_t i = 0; i < rank; ++i) {
      Axis axis{.extent = pick(1, rank == 1 ? 70 : rank == 2 ? 10 : 6)};
      axis.dilation = pick(0, 1) == 0 ? 1 : pick(1, axis.extent);
      axis.window = pick(0, 4) == 0 ? axis.extent / axis.dilation : pick(1, axis.extent / axis.dilation);
      axis.stride = pick(0, 2) == 0 ? 1 : pick(1, axis.window);
      axis.causal = pick(0, 2) == 0;
      problem.axes.push_back(axis);
    }
    problem.heads_kv = pick(1, 2);
    problem.heads = problem.heads_kv * pick(1, 3);
    problem.head_dim = pick(1, 40);
    problem.head_dim_v = pick(0, 1) == 0 ? problem.head_dim : pick(1, 40);
    problem.extra_tokens = pick(0, 2) == 0 ? pick(1, 20) : 0;
    if (pick(0, 3) == 0) problem.scale = std::uniform_real_distribution<double>(-1, 1)(random_);
    // Enough rows that a tensor's norm is not by chance small against its terms.
    problem.batch = std::max<int64_t>(pick(1, 2), 24 / (problem.tokens() * problem.heads) + 1);
    problem.type = kElementTypes[static_cast<std::size_t>(pick(0, 2))];
    problem.relative_bias = bias_() % 2 == 0;
    return problem;
  }

 private:
  std::mt19937_64 random_;
  /// Of its own, so that which problems have a bias has no part in what they are.
  std::mt19937_64 bias_;
};

}  // namespace nalab::test
