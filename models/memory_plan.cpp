#include "models/memory_plan.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <numeric>

#include "core/tensor/buffer.h"

namespace nalab::models {

namespace {

/// Index of the last node that reads each value; the output is read after all of them.
std::vector<int64_t> last_uses(const Graph& graph) {
  std::vector<int64_t> last(graph.nodes().size());
  std::iota(last.begin(), last.end(), 0);
  for (std::size_t i = 0; i < last.size(); ++i) {
    for (const Value input : graph.nodes()[i].inputs) last[static_cast<std::size_t>(input)] = static_cast<int64_t>(i);
  }
  last.back() = std::ssize(last);
  return last;
}

}  // namespace

MemoryPlan plan_memory(const std::vector<Lifetime>& lifetimes) {
  constexpr auto alignment = static_cast<int64_t>(kAlignment);
  MemoryPlan plan;
  plan.offsets.resize(lifetimes.size());
  std::vector<std::size_t> by_size(lifetimes.size()), placed;
  std::iota(by_size.begin(), by_size.end(), 0);
  std::ranges::stable_sort(by_size, std::ranges::greater(), [&](std::size_t i) { return lifetimes[i].bytes; });
  for (const std::size_t i : by_size) {
    const Lifetime& mine = lifetimes[i];
    // The lowest gap between those that live at the same time; `placed` is in the order of offsets.
    int64_t offset = 0;
    for (const std::size_t other : placed) {
      if (lifetimes[other].first > mine.last || mine.first > lifetimes[other].last) continue;
      if (offset + mine.bytes <= plan.offsets[other]) break;
      const int64_t end = plan.offsets[other] + lifetimes[other].bytes;
      offset = std::max(offset, (end + alignment - 1) / alignment * alignment);
    }
    plan.offsets[i] = offset;
    plan.bytes = std::max(plan.bytes, offset + mine.bytes);
    placed.insert(std::ranges::upper_bound(placed, offset, {}, [&](std::size_t j) { return plan.offsets[j]; }), i);
  }
  return plan;
}

std::vector<Lifetime> inference_lifetimes(const Graph& graph, const std::vector<int64_t>& bytes) {
  const std::vector<int64_t> last = last_uses(graph);
  std::vector<Lifetime> lifetimes;
  for (std::size_t i = 0; i < last.size(); ++i) lifetimes.push_back({bytes[i], static_cast<int64_t>(i), last[i]});
  return lifetimes;
}

std::vector<Lifetime> training_lifetimes(const Graph& graph, const std::vector<int64_t>& bytes) {
  const std::vector<int64_t> last = last_uses(graph);
  const int64_t end = 2 * std::ssize(last) - 1;
  std::vector<Lifetime> lifetimes;
  for (int64_t i = 0; i < std::ssize(last); ++i) lifetimes.push_back({bytes[static_cast<std::size_t>(i)], i, end - i});
  for (int64_t i = 0; i < std::ssize(last); ++i) {
    // The loss writes the output's gradient.
    const auto j = static_cast<std::size_t>(i);
    lifetimes.push_back({bytes[j], std::min(end - last[j], end - i), end - i});
  }
  return lifetimes;
}

}  // namespace nalab::models
