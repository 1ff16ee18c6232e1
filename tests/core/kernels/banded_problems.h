// Problems for banded that are larger than those of the common tests.
#pragma once

#include <vector>

#include "core/problem.h"

namespace nalab::test {

/// Several tasks along strips and axes, the last ones cut short: heads that straddle strips, rows in several pieces,
/// dilation groups of unlike length, windows that jump.
inline std::vector<Problem> large_banded_problems() {
  return {
      {.axes = {{.extent = 331, .window = 9}}, .heads = 6, .heads_kv = 3, .head_dim = 24, .head_dim_v = 40},
      {.axes = {{.extent = 517, .window = 8, .stride = 3, .dilation = 4}},
       .heads = 3,
       .heads_kv = 3,
       .head_dim = 12,
       .head_dim_v = 16,
       .extra_tokens = 9},
      {.axes = {{.extent = 43, .window = 7}, {.extent = 37, .window = 7}},
       .heads = 2,
       .heads_kv = 2,
       .head_dim = 32,
       .head_dim_v = 32},
      {.axes = {{.extent = 38, .window = 5, .stride = 2, .causal = true}, {.extent = 29, .window = 6, .causal = true}},
       .batch = 3,
       .heads = 4,
       .heads_kv = 2,
       .head_dim = 16,
       .head_dim_v = 9,
       .extra_tokens = 2,
       .relative_bias = true},
      {.axes = {{.extent = 41, .window = 4, .dilation = 3}, {.extent = 47, .window = 11, .stride = 5, .dilation = 2}},
       .heads = 3,
       .heads_kv = 3,
       .head_dim = 20,
       .head_dim_v = 33,
       .relative_bias = true},
      {.axes = {{.extent = 14, .window = 3}, {.extent = 15, .window = 3, .stride = 2}, {.extent = 13, .window = 5}},
       .heads = 2,
       .head_dim = 8,
       .head_dim_v = 16,
       .relative_bias = true},
      // Strips of whole segments: two groups of seven tokens.
      {.axes = {{.extent = 16, .window = 5}, {.extent = 21, .window = 5, .dilation = 3}},
       .heads = 3,
       .heads_kv = 3,
       .head_dim = 16,
       .head_dim_v = 20,
       .relative_bias = true},
      // Windows that share no keys with others.
      {.axes = {{.extent = 32, .window = 4, .stride = 4}, {.extent = 48, .window = 8, .stride = 8}},
       .heads = 2,
       .heads_kv = 2,
       .head_dim = 16,
       .head_dim_v = 16},
      // So many dilation groups that a task has several strips, which share keys.
      {.axes = {{.extent = 13, .window = 3, .dilation = 4},
                {.extent = 9, .window = 2, .dilation = 4},
                {.extent = 21, .window = 5}},
       .heads = 3,
       .heads_kv = 3,
       .head_dim = 8,
       .head_dim_v = 8},
  };
}

}  // namespace nalab::test
