#include "experiments/plan/budget.h"

#include <fmt/format.h>

#include "experiments/plan/units.h"

namespace nalab::plan {

namespace {

/// So much is taken for run as planned before anything has run: a few short groups do not tell the pace.
constexpr double kPriorSeconds = 5;

const std::string& config_of(const Group& group) { return group.rows.front().config; }
const std::string& baseline_of(const Group& group) { return group.rows.front().baseline; }

}  // namespace

double expected_seconds(const Group& group) {
  double seconds = 0;
  for (const PlannedRow& row : group.rows) seconds += row.seconds;
  return seconds;
}

std::optional<std::string> Budget::left_out(const Group& group) {
  const std::optional<double> budget = group.settings.timing.budget_seconds;
  if (!budget) return std::nullopt;
  Account& account = accounts_[config_of(group)];
  if (account.without_baseline.contains(baseline_of(group))) return "left out with its self attention";
  const double pace = (account.spent + kPriorSeconds) / (account.expected + kPriorSeconds);
  const double needed = pace * expected_seconds(group);
  if (account.spent + needed <= *budget) return std::nullopt;
  for (const PlannedRow& row : group.rows) {
    if (row.problem.id() == row.baseline) account.without_baseline.insert(row.baseline);
  }
  return fmt::format("left out: it would take about {}, and the configuration allows {} in all, of which {} are spent",
                     seconds_text(needed), seconds_text(*budget), seconds_text(account.spent));
}

void Budget::spent(const Group& group, double seconds) {
  Account& account = accounts_[config_of(group)];
  account.spent += seconds;
  account.expected += expected_seconds(group);
}

}  // namespace nalab::plan
