// Progress of a run, for people: a line for each group, and on a terminal what is running now and when all will be
// done.
#pragma once

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

#include "experiments/runner/runner.h"

namespace nalab::runner {

class ProgressLines : public Progress {
 public:
  /// `out` gets the lines. The line in progress is printed as well if `terminal` says that it can be erased.
  ProgressLines(const plan::RunPlan& plan, Clock& clock, std::FILE* out, bool terminal);

  void started(const plan::Group& group) override;
  void finished(std::span<const store::FinishedRow> rows) override;

 private:
  Clock& clock_;
  std::FILE* out_;
  bool terminal_;
  std::size_t groups_ = 0, finished_groups_ = 0;
  double start_ = 0;
  double expected_ = 0, expected_finished_ = 0;  ///< seconds expected by the plan: all groups, finished ones
  const plan::Group* current_ = nullptr;
};

}  // namespace nalab::runner
