// Progress of a run, for people: a line for each group, and on a terminal what is running now and when all will be
// done.
#pragma once

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "experiments/runner/runner.h"

namespace nalab::runner {

class ProgressLines : public Progress {
 public:
  /// `out` gets the lines. The line in progress is printed as well if `terminal` says that it can be erased.
  ProgressLines(const plan::RunPlan& plan, Clock& clock, std::FILE* out, bool terminal);

  void started(const plan::Group& group) override;
  void finished(std::span<const store::FinishedRow> rows) override;
  void started(const plan::ModelGroup& group) override;
  void finished(std::span<const store::ModelRow> rows) override;

 private:
  /// Of something that a group computes and is expected to take so many seconds.
  void started(const std::string& what, double expected);
  /// With an outcome of each row.
  void finished(const std::string& what, const std::vector<std::string>& outcomes,
                const std::vector<const store::TimedRow*>& rows);

  Clock& clock_;
  std::FILE* out_;
  bool terminal_;
  std::size_t groups_ = 0, finished_groups_ = 0;
  double start_ = 0;
  double expected_ = 0, expected_finished_ = 0;  ///< seconds expected by the plan: all groups, finished ones
  double expected_current_ = 0;                  ///< of the group at hand
  std::vector<bool> announced_;                  ///< which of its rows the plan refuses
};

}  // namespace nalab::runner
