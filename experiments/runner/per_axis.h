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

}  // namespace nalab::runner
