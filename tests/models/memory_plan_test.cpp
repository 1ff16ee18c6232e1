#include "models/memory_plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "models/build.h"

namespace nalab::models {
namespace {

/// Checks by brute force that no two values that live at the same time share memory. Returns the sum of all sizes.
int64_t check(const Graph& graph, const std::vector<int64_t>& sizes, const MemoryPlan& plan) {
  const int count = static_cast<int>(sizes.size());
  int64_t sum = 0;
  for (int at = 0; at < count; ++at) {
    sum += sizes[at];
    EXPECT_EQ(plan.offsets[at] % 64, 0);
    EXPECT_LE(plan.offsets[at] + sizes[at], plan.bytes);
    // Live while node `at` computes: it, and earlier ones that it or a later node reads.
    std::vector<int> live{at};
    for (int value = 0; value < at; ++value) {
      bool read = value == graph.output();
      for (int node = at; node < count; ++node) read = read || std::ranges::count(graph.node(node).inputs, value) > 0;
      if (read) live.push_back(value);
    }
    for (const int a : live) {
      for (const int b : live) {
        if (a == b) continue;
        const bool apart =
            plan.offsets[a] + sizes[a] <= plan.offsets[b] || plan.offsets[b] + sizes[b] <= plan.offsets[a];
        EXPECT_TRUE(apart) << "values " << a << " and " << b << " at node " << at;
      }
    }
  }
  return sum;
}

TEST(MemoryPlan, ValuesOfOneTimeLieApart) {
  for (const char* name : {"NAT-M", "DiNATs-T", "StyleNAT-256"}) {
    SCOPED_TRACE(name);
    const Graph graph = build(find_definition(name));
    std::vector<int64_t> sizes;
    for (const Node& node : graph.nodes()) sizes.push_back(node.extent.elements() * 4);
    const MemoryPlan plan = plan_memory(inference_lifetimes(graph, sizes));
    EXPECT_LT(plan.bytes, check(graph, sizes, plan) / 4);
  }
}

TEST(MemoryPlan, AChainNeedsTwoPlaces) {
  Graph graph;
  Value x = graph.input({1, 1, 16});
  for (int i = 0; i < 5; ++i) x = graph.layer_norm(x, "norm");
  EXPECT_EQ(plan_memory(inference_lifetimes(graph, std::vector<int64_t>(6, 64))).bytes, 128);
}

}  // namespace
}  // namespace nalab::models
