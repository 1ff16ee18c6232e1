// What a row's samples come to.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace nalab::store {

/// The middle sample, or the mean of the two in the middle. Requires at least one.
inline double median(std::vector<double> samples) {
  std::ranges::sort(samples);
  const std::size_t middle = samples.size() / 2;
  return samples.size() % 2 == 1 ? samples[middle] : (samples[middle - 1] + samples[middle]) / 2;
}

}  // namespace nalab::store
