#include "models/attention_problems.h"

#include <algorithm>
#include <variant>

namespace nalab::models {

Problem attention_problem(const Attention& attention, const HeadGroup& group, const Extent& extent, int64_t batch,
                          ElementType type) {
  const auto axis = [&](int64_t tokens) {
    return Axis{.extent = tokens, .window = attention.window, .dilation = group.dilation};
  };
  const int64_t head_dim = extent.channels / attention.heads();
  return {.axes = {axis(extent.rows), axis(extent.columns)},
          .batch = batch,
          .heads = group.heads,
          .heads_kv = group.heads,
          .head_dim = head_dim,
          .head_dim_v = head_dim,
          .relative_bias = !group.rpb.empty(),
          .type = type};
}

std::vector<RepeatedProblem> attention_problems(const Graph& graph, int64_t batch, ElementType type) {
  std::vector<RepeatedProblem> problems;
  for (const Node& node : graph.nodes()) {
    const auto* attention = std::get_if<Attention>(&node.operation);
    if (attention == nullptr) continue;
    for (const HeadGroup& group : attention->groups) {
      Problem problem = attention_problem(*attention, group, node.extent, batch, type);
      const auto there =
          std::ranges::find(problems, problem.id(), [](const auto& known) { return known.problem.id(); });
      if (there == problems.end()) {
        problems.push_back({std::move(problem)});
      } else {
        ++there->times;
      }
    }
  }
  return problems;
}

}  // namespace nalab::models
