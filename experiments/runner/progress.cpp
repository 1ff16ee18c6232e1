#include "experiments/runner/progress.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "experiments/plan/budget.h"
#include "experiments/plan/units.h"
#include "store/samples.h"

namespace nalab::runner {

namespace {

/// For each row of a group whether the plan refuses it.
template <class G>
std::vector<bool> refusals_of(const G& group) {
  std::vector<bool> refused;
  for (const auto& row : group.rows) refused.push_back(row.refusal.has_value());
  return refused;
}

/// "naive 1.20 ms"
std::string outcome(const store::TimedRow& row) {
  if (row.status != "done") return row.variant + " " + row.status;
  return row.variant + " " + plan::seconds_text(store::median(row.samples));
}

/// "naive 1.20 ms, of that attention 40.1 %"
std::string outcome(const store::ModelRow& row) {
  std::string text = outcome(static_cast<const store::TimedRow&>(row));
  if (row.status != "done") return text;
  return text + fmt::format(" (attention {:.1f} %)", 100 * row.attention_seconds / store::median(row.samples));
}

/// Problem or model: an id without variant and pass.
std::string subject_of(const store::ModelRow& row) { return row.id.substr(0, row.id.find("." + row.variant + ".")); }

}  // namespace

ProgressLines::ProgressLines(const plan::RunPlan& plan, Clock& clock, std::FILE* out, bool terminal)
    : clock_(clock),
      out_(out),
      terminal_(terminal),
      groups_(plan.groups.size() + plan.models.size()),
      start_(clock.seconds()),
      expected_(plan::expected_seconds(plan)) {}

void ProgressLines::started(const plan::Group& group) {
  announced_ = refusals_of(group);
  started(group.rows.front().problem.id(), plan::expected_seconds(group));
}

void ProgressLines::started(const plan::ModelGroup& group) {
  announced_ = refusals_of(group);
  started(group.rows.front().label, plan::expected_seconds(group));
}

void ProgressLines::started(const std::string& what, double expected) {
  expected_current_ = expected;
  if (!terminal_) return;
  // What the plan expects, corrected by the pace so far.
  const double elapsed = clock_.seconds() - start_;
  const double pace = expected_finished_ > 0 ? elapsed / expected_finished_ : 1.0;
  fmt::print(out_, "\r\033[K[{}/{}] ETA {}  {}", finished_groups_ + 1, groups_,
             plan::seconds_text(pace * (expected_ - expected_finished_)), what);
  std::fflush(out_);
}

void ProgressLines::finished(std::span<const store::FinishedRow> rows) {
  std::vector<std::string> outcomes;
  std::vector<const store::TimedRow*> timed;
  for (const store::FinishedRow& finished : rows) {
    outcomes.push_back(outcome(finished.row));
    timed.push_back(&finished.row);
  }
  finished(rows.back().row.problem + " " + rows.back().row.pass, outcomes, timed);
}

void ProgressLines::finished(std::span<const store::ModelRow> rows) {
  std::vector<std::string> outcomes;
  std::vector<const store::TimedRow*> timed;
  for (const store::ModelRow& row : rows) {
    outcomes.push_back(outcome(row));
    timed.push_back(&row);
  }
  finished(subject_of(rows.back()) + " " + rows.back().pass, outcomes, timed);
}

void ProgressLines::finished(const std::string& what, const std::vector<std::string>& outcomes,
                             const std::vector<const store::TimedRow*>& rows) {
  ++finished_groups_;
  expected_finished_ += expected_current_;
  if (terminal_) fmt::print(out_, "\r\033[K");
  fmt::print(out_, "[{}/{}] {}: {}\n", finished_groups_, groups_, what, fmt::join(outcomes, ", "));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    // What the plan refuses has been announced.
    if (rows[i]->status == "done" || announced_[i]) continue;
    fmt::print(out_, "  {}: {}: {}\n", rows[i]->status, rows[i]->id, rows[i]->reason);
  }
  std::fflush(out_);
}

}  // namespace nalab::runner
