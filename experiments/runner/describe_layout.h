// Per-axis parameters as results files have them.
#pragma once

#include <string>

#include "core/problem.h"

namespace nalab::runner {

/// "30x48x80"
template <class T>
std::string per_axis(const Problem& problem, T Axis::*member) {
  std::string text;
  for (const Axis& axis : problem.axes) {
    text += (text.empty() ? "" : "x") + std::to_string(static_cast<int64_t>(axis.*member));
  }
  return text;
}

/// Fills in what a row of results and one of simulations say alike of their problem.
template <class R>
void describe_layout(const Problem& problem, R& row) {
  row.layout = per_axis(problem, &Axis::extent);
  row.window = per_axis(problem, &Axis::window);
  row.stride = per_axis(problem, &Axis::stride);
  row.dilation = per_axis(problem, &Axis::dilation);
  row.causal = per_axis(problem, &Axis::causal);
  row.extra_tokens = problem.extra_tokens;
}

}  // namespace nalab::runner
