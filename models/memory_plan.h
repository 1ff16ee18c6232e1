// Where values lie: those that are not needed at the same time share memory.
#pragma once

#include <cstdint>
#include <vector>

#include "models/graph.h"

namespace nalab::models {

/// Bytes that the values of a graph need, and where each begins.
struct MemoryPlan {
  std::vector<int64_t> offsets;  ///< of each value, multiples of 64
  int64_t bytes = 0;
};

/// sizes: bytes of each value. A value is kept from its node to the last one that reads it; the output to the end.
MemoryPlan plan_memory(const Graph& graph, const std::vector<int64_t>& sizes);

}  // namespace nalab::models
