// Where values lie: those that are not needed at the same time share memory.
#pragma once

#include <cstdint>
#include <vector>

#include "models/graph.h"

namespace nalab::models {

/// Memory that is needed from one step of a program to another, both included.
struct Lifetime {
  int64_t bytes = 0;
  int64_t first = 0, last = 0;
};

/// Bytes that all need together, and where each begins.
struct MemoryPlan {
  std::vector<int64_t> offsets;  ///< multiples of 64
  int64_t bytes = 0;
};

/// What is needed at the same time lies apart.
MemoryPlan plan_memory(const std::vector<Lifetime>& lifetimes);

/// Of the values of a graph, `bytes` each: from its node to the last one that reads it; the output to the end.
std::vector<Lifetime> inference_lifetimes(const Graph& graph, const std::vector<int64_t>& bytes);
/// Of the values and then of their gradients, `bytes` each. The backward step of node i of n comes at 2 n - 1 - i;
/// values are kept for it.
std::vector<Lifetime> training_lifetimes(const Graph& graph, const std::vector<int64_t>& bytes);

}  // namespace nalab::models
