#include "report/speedup_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "report/format.h"

namespace nalab::report {
namespace {

using store::Results;
using store::Row;

std::string pair_text(int64_t a, int64_t b, const char* what) {
  return a == b ? exact(a) : fmt::format("{} ({} {})", a, what, b);
}

std::string causal_text(const Row& row) { return is_everywhere(0, "causal", row.causal) ? "no" : row.causal; }

std::vector<Trait<Row>> all_traits() {
  return {
      {"layout", [](const Row& row) { return row.layout; }},
      {"window", [](const Row& row) { return row.window; }},
      {"stride", [](const Row& row) { return row.stride; }},
      {"dilation", [](const Row& row) { return row.dilation; }},
      {"causal", causal_text, false, "no"},
      {"extra tokens", [](const Row& row) { return exact(row.extra_tokens); }, true, "0"},
      {"bias", [](const Row& row) { return row.relative_bias != 0 ? "yes" : "no"; }, false, "no"},
      {"batch", [](const Row& row) { return exact(row.batch); }, true},
      {"heads", [](const Row& row) { return pair_text(row.heads, row.heads_kv, "kv"); }, true},
      {"head dim", [](const Row& row) { return pair_text(row.head_dim, row.head_dim_v, "v"); }, true},
      {"type", [](const Row& row) { return row.type; }},
      {"pass", [](const Row& row) { return pass_text(row.pass); }},
  };
}

/// Leaves out rows that are only there to be the baseline of other problems.
void choose_problems(SpeedupView& view) {
  std::set<std::string> baselines_of_others, asked_for;
  for (const Row& row : view.results.rows) {
    if (row.baseline != row.problem) baselines_of_others.insert(row.baseline);
    if (!view.index.only_self_attention(row.variant)) asked_for.insert(row.problem);
  }
  std::set<std::pair<std::string, std::string>> seen;
  for (const Row& row : view.results.rows) {
    if (row.config != view.config) continue;
    const bool is_only_baseline = view.index.only_self_attention(row.variant) &&
                                  baselines_of_others.contains(row.problem) && !asked_for.contains(row.problem);
    if (!is_only_baseline && seen.emplace(row.problem, row.pass).second) view.problems.push_back(&row);
  }
}

std::string configured_baseline(const SpeedupView& view) {
  for (const store::StoredConfig& config : view.results.configs) {
    if (config.name == view.config) return config.baseline;
  }
  return {};
}

void choose_variants(SpeedupView& view, const Options& options) {
  std::set<std::string> seen;
  for (const Row& row : view.results.rows) {
    if (!seen.insert(row.variant).second) continue;
    const bool found = std::any_of(view.problems.begin(), view.problems.end(), [&](const Row* problem) {
      return view.index.counterpart(*problem, row.variant) != nullptr;
    });
    if (found) view.variants.push_back(row.variant);
  }
  // The one asked for may be of another device.
  const bool is_of_device =
      std::ranges::find(view.results.rows, options.baseline, &Row::variant) != view.results.rows.end();
  if (is_of_device) view.baseline = options.baseline;
  for (const std::string& name : {configured_baseline(view), std::string("naive")}) {
    const bool is_there = std::find(view.variants.begin(), view.variants.end(), name) != view.variants.end();
    if (view.baseline.empty() && is_there) view.baseline = name;
  }
}

}  // namespace

SpeedupView make_view(const Results& results, const RowIndex& index, const std::string& config, Device device,
                      const Options& options) {
  SpeedupView view{.results = results,
                   .index = index,
                   .config = config,
                   .name = name_on(device, config),
                   .title = title_on(device, config),
                   .traits = all_traits()};
  choose_problems(view);
  if (view.problems.empty()) return view;
  choose_variants(view, options);
  view.common = take_common(view.traits, view.problems);
  return view;
}

Speedup speedup(const SpeedupView& view, const Row& problem, const Row& row) {
  const Row* baseline = view.index.counterpart(problem, view.baseline);
  if (baseline == nullptr) {
    return {std::nullopt, view.baseline.empty()
                              ? "there is no baseline in the results"
                              : fmt::format("{}, the baseline, is not in the results of this pass", view.baseline)};
  }
  if (!is_measured(*baseline)) return {std::nullopt, why_not_measured(*baseline)};
  const store::Environment& environment = view.results.environment;
  return {figures_of(environment, *baseline).median / figures_of(environment, row).median, few_samples(row, *baseline),
          baseline->samples.size()};
}

}  // namespace nalab::report
