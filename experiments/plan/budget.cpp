#include "experiments/plan/budget.h"

#include <fmt/format.h>

#include "experiments/plan/units.h"

namespace nalab::plan {

namespace {

/// So much is taken for run as planned before anything has run: a few short groups do not tell the pace.
constexpr double kPriorSeconds = 5;

template <class G>
const std::string& config_of(const G& group) {
  return group.rows.front().config;
}
const std::string& baseline_of(const Group& group) { return group.rows.front().baseline; }

template <class G>
double sum_of(const G& group) {
  double seconds = 0;
  for (const auto& row : group.rows) seconds += row.seconds;
  return seconds;
}

}  // namespace

double expected_seconds(const Group& group) { return sum_of(group); }
double expected_seconds(const ModelGroup& group) { return sum_of(group); }

double expected_seconds(const RunPlan& plan) {
  double seconds = 0;
  for (const Group& group : plan.groups) seconds += sum_of(group);
  for (const ModelGroup& group : plan.models) seconds += sum_of(group);
  return seconds;
}

std::optional<std::string> Budget::too_long(const Account& account, const config::Timing& timing,
                                            double expected) const {
  const std::optional<double> budget = timing.budget_seconds;
  if (!budget) return std::nullopt;
  const double pace = (account.spent + kPriorSeconds) / (account.expected + kPriorSeconds);
  const double needed = pace * expected;
  if (account.spent + needed <= *budget) return std::nullopt;
  return fmt::format("left out: it would take about {}, and the configuration allows {} in all, of which {} are spent",
                     seconds_text(needed), seconds_text(*budget), seconds_text(account.spent));
}

std::optional<std::string> Budget::left_out(const Group& group) {
  Account& account = accounts_[config_of(group)];
  if (account.without_baseline.contains(baseline_of(group))) return "left out with its self attention";
  auto reason = too_long(account, group.settings.timing, expected_seconds(group));
  if (!reason) return std::nullopt;
  for (const PlannedRow& row : group.rows) {
    if (row.problem.id() == row.baseline) account.without_baseline.insert(row.baseline);
  }
  return reason;
}

std::optional<std::string> Budget::left_out(const ModelGroup& group) {
  return too_long(accounts_[config_of(group)], group.settings.timing, expected_seconds(group));
}

void Budget::spent(const Group& group, double seconds) {
  Account& account = accounts_[config_of(group)];
  account.spent += seconds;
  account.expected += expected_seconds(group);
}

void Budget::spent(const ModelGroup& group, double seconds) {
  Account& account = accounts_[config_of(group)];
  account.spent += seconds;
  account.expected += expected_seconds(group);
}

}  // namespace nalab::plan
