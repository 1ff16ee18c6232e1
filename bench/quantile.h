// Statistics of timed calls.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace nalab::bench {

/// Of values that are not empty, one of them: q from 0, the least, to 1.
inline double quantile(std::vector<double> values, double q) {
  std::ranges::sort(values);
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

}  // namespace nalab::bench
