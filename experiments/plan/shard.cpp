#include "experiments/plan/shard.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "core/error.h"
#include "experiments/plan/estimate.h"

namespace nalab::plan {

namespace {

constexpr int64_t kMostShards = 100'000;
/// One thread of an ordinary machine; only the proportions matter.
constexpr double kFlopsPerSecond = 10e9;

/// What a row costs, on any machine. FLOPs that a variant executes and memory that it needs are left out: they may
/// depend on caches and threads. What another device supports depends on whether it is there: it is taken to support
/// all.
double cost_seconds(const PlannedRow& row, const config::Settings& settings) {
  if (row.useful_flops == 0) return 0;  // an invalid problem
  double oracle = 0;
  for (const Pass pass : config::passes_of(row.pass)) {
    if (row.variant->device == Device::cpu && row.variant->supports(row.problem, pass)) return 0;
    oracle += oracle_pass_seconds(row.problem, pass);
  }
  const double call = row.variant->is_oracle ? oracle : static_cast<double>(row.useful_flops) / kFlopsPerSecond;
  return std::min(oracle, settings.verify.budget_seconds) + timing_seconds(settings.timing, call);
}

/// The same for a row of a model, also where the machine refuses it. Builds without models do not know what one costs,
/// and take it for nothing: their shards are not those of other builds.
double cost_seconds(const PlannedModel& row, const config::Settings& settings) {
  const double call = static_cast<double>(flops_of_call(row)) / kFlopsPerSecond;
  return std::min(row.reference_seconds, settings.verify.budget_seconds) + timing_seconds(settings.timing, call);
}

/// Whole microseconds: their sums do not depend on the order.
template <class G>
int64_t cost(const G& group) {
  int64_t microseconds = 0;
  for (const auto& row : group.rows) microseconds += std::llround(1e6 * cost_seconds(row, group.settings));
  return microseconds;
}

/// The shard of each group and then of each model, counted from 0.
std::vector<std::size_t> shards_of(const RunPlan& plan, std::size_t count) {
  std::vector<int64_t> costs;
  for (const Group& group : plan.groups) costs.push_back(cost(group));
  for (const ModelGroup& group : plan.models) costs.push_back(cost(group));
  std::vector<std::size_t> order(costs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater(), [&costs](std::size_t group) { return costs[group]; });

  std::vector<std::size_t> shards(costs.size());
  std::vector<int64_t> load(count);
  for (const std::size_t group : order) {
    const auto least = std::ranges::min_element(load);
    *least += costs[group];
    shards[group] = static_cast<std::size_t>(least - load.begin());
  }
  return shards;
}

}  // namespace

store::Shard parse_shard(const std::string& text) {
  store::Shard shard;
  const char* const end = text.data() + text.size();
  const auto index = std::from_chars(text.data(), end, shard.index);
  const bool has_slash = index.ec == std::errc{} && index.ptr != end && *index.ptr == '/';
  const auto count = has_slash ? std::from_chars(index.ptr + 1, end, shard.count) : index;
  const bool whole = has_slash && count.ec == std::errc{} && count.ptr == end;
  if (!whole || shard.index < 1 || shard.index > shard.count || shard.count > kMostShards) {
    throw Error("shard '" + text + "' must be I/N, the I-th of N shards, with 1 <= I <= N <= 100000");
  }
  return shard;
}

void take_shard(RunPlan& plan, const store::Shard& shard) {
  const auto mine = static_cast<std::size_t>(shard.index - 1);
  const std::vector<std::size_t> shards = shards_of(plan, static_cast<std::size_t>(shard.count));
  auto place = shards.begin();
  const auto keep_mine = [&place, mine](auto& groups) {
    auto all = std::exchange(groups, {});
    for (auto& group : all) {
      if (*place++ == mine) groups.push_back(std::move(group));
    }
  };
  keep_mine(plan.groups);
  keep_mine(plan.models);
  if (mine != 0) plan.simulations.clear();
}

}  // namespace nalab::plan
