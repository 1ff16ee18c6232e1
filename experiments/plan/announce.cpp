#include "experiments/plan/announce.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "experiments/plan/budget.h"
#include "experiments/plan/units.h"

namespace nalab::plan {

namespace {

std::string verification_text(const PlannedRow& row) {
  if (row.verified_queries == 0) return "nothing, which would take longer than the budget";
  std::string text = row.verified_queries == row.total_queries
                         ? "all queries"
                         : fmt::format("{} of {} queries", row.verified_queries, row.total_queries);
  if (const auto& sample = row.gradient_sample) {
    text += fmt::format(" and gradients of {} queries and {} keys", sample->queries, sample->keys);
    if (row.problem.relative_bias) text += fmt::format(" and {} entries of the bias", sample->offsets);
  }
  return text;
}

/// "f32_fma q1x4x8_..., backward f32_fma q1x2x8_..., "
std::string plan_text(const PlannedRow& row) {
  std::string text;
  for (const nalab::Plan& plan : row.plans) {
    const std::string tiles = plan.tiling_text();
    text += fmt::format("{}{}{}{}, ", plan.pass() == Pass::backward ? "backward " : "", plan.arithmetic_name(),
                        tiles.empty() ? "" : " ", tiles);
  }
  return text;
}

}  // namespace

std::string summary(const RunPlan& plan, double peak_seconds) {
  int64_t run = 0, sampled = 0, refused = 0, flops = 0, held = 0, workspace = 0, memory = 0;
  double seconds = peak_seconds;
  std::map<std::string, std::vector<std::string>> refusals;
  const auto refuse = [&](const auto& row) {
    ++refused;
    refusals[fmt::format("{}: {}", row.variant->name, *row.refusal)].push_back(row.id);
  };
  Budget budget;
  int64_t left_out = 0;
  const auto is_left_out = [&](const auto& group) {
    if (budget.left_out(group)) return true;
    budget.spent(group, expected_seconds(group));
    seconds += expected_seconds(group);
    return false;
  };
  const auto add = [&](const auto& row, int64_t flops_of_row, bool is_out) {
    if (is_out) ++left_out;
    flops += flops_of_row;
    held = std::max(held, row.memory_bytes - row.workspace_bytes);
    workspace = std::max(workspace, row.workspace_bytes);
    memory = std::max(memory, row.memory_bytes);
  };
  for (const Group& group : plan.groups) {
    const bool is_out = is_left_out(group);
    for (const PlannedRow& row : group.rows) {
      if (row.refusal) {
        refuse(row);
        continue;
      }
      ++run;
      if (row.verified_queries < row.total_queries || row.gradient_sample) ++sampled;
      add(row, row.useful_flops, is_out);
    }
  }
  int64_t with_reference = 0, without = 0;
  for (const ModelGroup& group : plan.models) {
    const bool is_out = is_left_out(group);
    for (const PlannedModel& row : group.rows) {
      if (row.refusal) {
        refuse(row);
        continue;
      }
      ++(row.has_reference ? with_reference : without);
      add(row, flops_of_call(row), is_out);
    }
  }
  std::string text;
  auto out = std::back_inserter(text);
  if (!plan.has_rows()) {
    return fmt::format("plan: {} simulations, {} requested more than once\n", plan.simulations.size(), plan.repeated);
  }
  if (!plan.simulations.empty()) fmt::format_to(out, "plan: {} simulations\n", plan.simulations.size());
  fmt::format_to(out, "plan: {} rows in {} groups, {} refused, {} requested more than once\n", plan.rows(),
                 plan.groups.size() + plan.models.size(), refused, plan.repeated);
  fmt::format_to(out, "  work    {} useful, one call of each row\n", flops_text(flops));
  fmt::format_to(out, "  memory  at most {} at a time (tensors and oracle up to {}, workspace up to {})\n",
                 bytes_text(memory), bytes_text(held), bytes_text(workspace));
  if (!plan.groups.empty()) {
    fmt::format_to(out, "  verify  {} rows on all queries, {} on a sample\n", run - sampled, sampled);
  }
  if (!plan.models.empty()) {
    fmt::format_to(out, "  models  {} rows against the reference attention, {} against the first variant alone\n",
                   with_reference, without);
  }
  fmt::format_to(out, "  time    very roughly {}\n", seconds_text(seconds));
  if (left_out > 0) {
    fmt::format_to(out, "  budget  leaves out about {} {}, by what the plan expects\n", left_out,
                   left_out == 1 ? "row" : "rows");
  }
  for (const auto& [device, rows] : plan.left_out) {
    fmt::format_to(out, "  {:<7} leaves out {} {}: it {}\n", name(device), rows, rows == 1 ? "row" : "rows",
                   *why_not_here(device));
  }
  for (const auto& [reason, ids] : refusals) {
    fmt::format_to(out, "  refused {} {}: {} ({}{})\n", ids.size(), ids.size() == 1 ? "row" : "rows", reason,
                   ids.front(), ids.size() > 1 ? ", ..." : "");
  }
  return text;
}

std::string listing(const RunPlan& plan) {
  std::string text;
  auto out = std::back_inserter(text);
  for (const Group& group : plan.groups) {
    for (const PlannedRow& row : group.rows) {
      fmt::format_to(out, "{}  [{}] ", row.id, row.label);
      if (row.refusal) {
        fmt::format_to(out, "refused: {}\n", *row.refusal);
      } else {
        fmt::format_to(out, "{}{}, memory {} with workspace {}, verify {}, about {}\n", plan_text(row),
                       flops_text(row.useful_flops), bytes_text(row.memory_bytes), bytes_text(row.workspace_bytes),
                       verification_text(row), seconds_text(row.seconds));
      }
    }
  }
  for (const ModelGroup& group : plan.models) {
    for (const PlannedModel& row : group.rows) {
      fmt::format_to(out, "{}  [{}] ", row.id, row.label);
      if (row.refusal) {
        fmt::format_to(out, "refused: {}\n", *row.refusal);
        continue;
      }
      fmt::format_to(out, "{}, {}, memory {} with workspace {}, verify {}, about {}\n", row.arithmetic,
                     flops_text(flops_of_call(row)), bytes_text(row.memory_bytes), bytes_text(row.workspace_bytes),
                     row.has_reference ? "one image with the reference" : "variants with each other",
                     seconds_text(row.seconds));
    }
  }
  for (const Simulation& simulation : plan.simulations) {
    fmt::format_to(out, "{}  [{}] simulation\n", simulation.id, simulation.settings.problem.label);
  }
  return text;
}

}  // namespace nalab::plan
