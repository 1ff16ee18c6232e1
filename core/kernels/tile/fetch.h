// Fetches of rows before they are needed.
#pragma once

#include <cstdint>

#include "core/problem.h"
#include "core/tensor/buffer.h"
#include "core/tensors.h"

namespace nalab::tile {

/// Which cache a line is fetched to.
enum class CacheLevel : int { second = 2, first = 3 };

/// Fetches a cache line. g++ 12 takes a function that does nothing but that for one without effect, and drops calls of
/// it; the empty assembly is an effect.
template <CacheLevel level>
void fetch(const void* line) {
  __builtin_prefetch(line, 0, static_cast<int>(level));
  asm volatile("");
}

/// Fetches the elements of a row.
template <CacheLevel level, class T>
void fetch_row(const T* row, int64_t dim) {
  constexpr int64_t kLine = static_cast<int64_t>(kAlignment / sizeof(T));
  for (int64_t c = 0; c < dim; c += kLine) fetch<level>(row + c);
}

/// Whether q, k, v and out are too large to stay near a core. What is near is not worth a fetch: small windows would
/// take 3 to 15 % longer.
inline bool is_far(const Problem& problem) {
  constexpr int64_t kBytes = 8 << 20;
  const int64_t elements = q_shape(problem).elements() + k_shape(problem).elements() + v_shape(problem).elements() +
                           out_shape(problem).elements();
  return elements * size_of(problem.type) > kBytes;
}

}  // namespace nalab::tile
