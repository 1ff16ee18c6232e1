#include "experiments/runner/progress.h"

#include <fmt/format.h>

#include "experiments/plan/budget.h"
#include "experiments/plan/units.h"
#include "store/samples.h"

namespace nalab::runner {

namespace {

/// "naive 1.20 ms"
std::string outcome(const store::Row& row) {
  if (row.status != "done") return row.variant + " " + row.status;
  return row.variant + " " + plan::seconds_text(store::median(row.samples));
}

}  // namespace

ProgressLines::ProgressLines(const plan::RunPlan& plan, Clock& clock, std::FILE* out, bool terminal)
    : clock_(clock), out_(out), terminal_(terminal), groups_(plan.groups.size()), start_(clock.seconds()) {
  for (const plan::Group& group : plan.groups) expected_ += plan::expected_seconds(group);
}

void ProgressLines::started(const plan::Group& group) {
  current_ = &group;
  if (!terminal_) return;
  // What the plan expects, corrected by the pace so far.
  const double elapsed = clock_.seconds() - start_;
  const double pace = expected_finished_ > 0 ? elapsed / expected_finished_ : 1.0;
  fmt::print(out_, "\r\033[K[{}/{}] ETA {}  {}", finished_groups_ + 1, groups_,
             plan::seconds_text(pace * (expected_ - expected_finished_)), group.rows.front().problem.id());
  std::fflush(out_);
}

void ProgressLines::finished(std::span<const store::FinishedRow> rows) {
  ++finished_groups_;
  expected_finished_ += plan::expected_seconds(*current_);
  if (terminal_) fmt::print(out_, "\r\033[K");
  const store::Row& last = rows.back().row;
  std::string outcomes;
  for (const store::FinishedRow& finished : rows) outcomes += (outcomes.empty() ? "" : ", ") + outcome(finished.row);
  fmt::print(out_, "[{}/{}] {} {}: {}\n", finished_groups_, groups_, last.problem, last.pass, outcomes);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const store::Row& row = rows[i].row;
    // What the plan refuses has been announced.
    if (row.status == "done" || current_->rows[i].refusal) continue;
    fmt::print(out_, "  {}: {}: {}\n", row.status, row.id, row.reason);
  }
  std::fflush(out_);
}

}  // namespace nalab::runner
