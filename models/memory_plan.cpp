#include "models/memory_plan.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "core/tensor/buffer.h"

namespace nalab::models {

namespace {

/// Index of the last node that reads each value.
std::vector<std::size_t> last_uses(const Graph& graph) {
  std::vector<std::size_t> last(graph.nodes().size());
  std::iota(last.begin(), last.end(), 0);
  for (std::size_t i = 0; i < last.size(); ++i) {
    for (const Value input : graph.nodes()[i].inputs) last[static_cast<std::size_t>(input)] = i;
  }
  last.back() = last.size();
  return last;
}

}  // namespace

MemoryPlan plan_memory(const Graph& graph, const std::vector<int64_t>& sizes) {
  const std::vector<std::size_t> last = last_uses(graph);
  MemoryPlan plan;
  plan.offsets.resize(sizes.size());
  std::vector<std::size_t> by_size(sizes.size()), placed;
  std::iota(by_size.begin(), by_size.end(), 0);
  std::ranges::stable_sort(by_size, [&](std::size_t a, std::size_t b) { return sizes[a] > sizes[b]; });
  for (const std::size_t value : by_size) {
    // The lowest gap between those that live at the same time; `placed` is in the order of offsets.
    int64_t offset = 0;
    for (const std::size_t other : placed) {
      if (other > last[value] || value > last[other]) continue;
      if (offset + sizes[value] <= plan.offsets[other]) break;
      constexpr auto alignment = static_cast<int64_t>(kAlignment);
      const int64_t end = plan.offsets[other] + sizes[other];
      offset = std::max(offset, (end + alignment - 1) / alignment * alignment);
    }
    plan.offsets[value] = offset;
    plan.bytes = std::max(plan.bytes, offset + sizes[value]);
    placed.insert(std::ranges::upper_bound(placed, offset, {}, [&](std::size_t i) { return plan.offsets[i]; }), value);
  }
  return plan;
}

}  // namespace nalab::models
