// Between rows of weights, with a number for each key that a query attends to, and attn, as callers of the split
// operators have it: a number for each slot of the window, whether a causal axis hides its key or not.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/kernels/unfused/neighbors.h"
#include "core/kernels/unfused/weight_rows.h"
#include "core/problem.h"

namespace nalab::unfused {

/// Whether no key is hidden, so that both are the same.
inline bool all_slots_are_keys(const Problem& problem) {
  return std::ranges::none_of(problem.axes, [](const Axis& axis) { return axis.causal && axis.window > 1; });
}

/// Calls body(column in a row of weights, slot, length) for the runs of keys of a query; the extra tokens are the last.
template <class Body>
void for_each_slot_run(const Problem& problem, const std::array<Axis, 3>& axes, const Token& query, const Body& body) {
  if (all_slots_are_keys(problem)) return body(0, 0, problem.keys_per_query());
  std::array<int64_t, 3> count;
  for (int axis = 0; axis < 3; ++axis) count[axis] = key_coordinates(axes[axis], query[axis]).count;
  int64_t column = 0;
  for (int64_t i = 0; i < count[0]; ++i) {
    for (int64_t j = 0; j < count[1]; ++j, column += count[2]) {
      body(column, (i * axes[1].window + j) * axes[2].window, count[2]);
    }
  }
  body(column, problem.keys_per_query() - problem.extra_tokens, problem.extra_tokens);
}

/// Rounds rows of weights to the element type of attn and stores them; hidden slots get a number of their own.
inline void store_slots(const Problem& problem, const ConstWeightRows& rows, float hidden, const TensorView& attn,
                        Workers& workers) {
  const auto axes = problem.axes3();
  with_element_type(attn.type, [&](auto element) {
    using T = decltype(element);
    const TokenView<T> target = attn.as<T>();
    for_each_token(problem.batch, target.shape.layout, workers, [&](int64_t b, const Token& token, int) {
      for (int64_t h = 0; h < problem.heads; ++h) {
        const float* const row = rows.row(b, token, h);
        T* const slots = target.row(b, token, h);
        if (!all_slots_are_keys(problem)) std::fill_n(slots, problem.keys_per_query(), from_float<T>(hidden));
        for_each_slot_run(problem, axes, token, [&](int64_t column, int64_t slot, int64_t n) {
          std::transform(row + column, row + column + n, slots + slot, from_float<T>);
        });
      }
    });
  });
}

/// Reads rows of weights from attn; what stands in hidden slots is left out.
inline void load_slots(const Problem& problem, const ConstTensorView& attn, const WeightRows& rows, Workers& workers) {
  const auto axes = problem.axes3();
  with_element_type(attn.type, [&](auto element) {
    using T = decltype(element);
    const TokenView<const T> source = attn.as<T>();
    for_each_token(problem.batch, source.shape.layout, workers, [&](int64_t b, const Token& token, int) {
      for (int64_t h = 0; h < problem.heads; ++h) {
        const T* const slots = source.row(b, token, h);
        float* const row = rows.row(b, token, h);
        for_each_slot_run(problem, axes, token, [&](int64_t column, int64_t slot, int64_t n) {
          std::transform(slots + slot, slots + slot + n, row + column, [](T x) { return to_float(x); });
        });
      }
    });
  });
}

}  // namespace nalab::unfused
