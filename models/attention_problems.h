// The problems that a model's layers of attention pose to the core.
#pragma once

#include <cstdint>
#include <vector>

#include "core/problem.h"
#include "models/graph.h"

namespace nalab::models {

/// That of the heads of one dilation, whose layer writes `extent`.
Problem attention_problem(const Attention& attention, const HeadGroup& group, const Extent& extent, int64_t batch,
                          ElementType type);

/// A problem, and how many times a forward pass computes it.
struct RepeatedProblem {
  Problem problem;
  int64_t times = 1;
};
/// All of a graph, each once, in the order of their first layer.
std::vector<RepeatedProblem> attention_problems(const Graph& graph, int64_t batch, ElementType type);

}  // namespace nalab::models
