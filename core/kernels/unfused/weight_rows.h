// What the unfused variants store of all queries, and loops over it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/kernels/unfused/neighbors.h"
#include "core/parallel.h"
#include "core/problem.h"

namespace nalab::unfused {

/// A row for each query, with a number for each key that it attends to: those of its window in row-major order, then
/// the extra tokens. Rows are at least keys_per_query long.
using WeightRows = TokenView<float>;
using ConstWeightRows = TokenView<const float>;

/// Calls body(batch, token, worker) for all tokens of a layout.
template <class Body>
void for_each_token(int64_t batch, const std::array<int64_t, 3>& layout, Workers& workers, const Body& body) {
  // Enough that a task costs more than its start, few enough to spread small problems.
  constexpr int64_t kTokensPerTask = 8;
  const int64_t tokens = layout[0] * layout[1] * layout[2];
  const int64_t tasks_of_batch = geometry::ceil_div(tokens, kTokensPerTask);
  workers.for_each(batch * tasks_of_batch, [&](int64_t task, int worker) {
    const int64_t first = task % tasks_of_batch * kTokensPerTask;
    for (int64_t index = first; index < std::min(first + kTokensPerTask, tokens); ++index) {
      body(task / tasks_of_batch, token_at(layout, index), worker);
    }
  });
}

/// Calls body(batch, token, head, numbers in its rows) for all queries.
template <class Body>
void for_each_query(const Problem& problem, Workers& workers, const Body& body) {
  const auto axes = problem.axes3();
  for_each_token(problem.batch, {axes[0].extent, axes[1].extent, axes[2].extent}, workers,
                 [&](int64_t b, const Token& token, int) {
                   const int64_t keys = key_count(axes, token) + problem.extra_tokens;
                   for (int64_t h = 0; h < problem.heads; ++h) body(b, token, h, keys);
                 });
}

}  // namespace nalab::unfused
