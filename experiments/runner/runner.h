// Runs a plan: asks the simulator; for each group fills the tensors, verifies every row, times those that are right,
// and stores.
#pragma once

#include <cstdint>
#include <span>

#include "core/parallel.h"
#include "core/simd/isa.h"
#include "experiments/plan/plan.h"
#include "experiments/runner/clock.h"
#include "experiments/runner/host.h"
#include "store/results.h"

namespace nalab::runner {

/// Is told of the progress of a run.
class Progress {
 public:
  virtual ~Progress() = default;
  virtual void started(const plan::Group& group) = 0;
  /// The rows of the group that was started last; they are stored by now.
  virtual void finished(std::span<const store::FinishedRow> rows) = 0;
  /// The same for models.
  virtual void started(const plan::ModelGroup& group) = 0;
  virtual void finished(std::span<const store::ModelRow> rows) = 0;
};

/// Rows by status, and simulations.
struct Totals {
  int64_t done = 0, failed = 0, refused = 0, simulated = 0;
  bool stopped = false;  ///< before the end of the plan, because the host asked for it
};

/// Runs a plan: its simulations, which take hardly any time, then all groups and all models in order. A row whose
/// result is wrong, or that throws, gets the status failed and no samples; if it needs more memory than is free, or
/// allocation fails, the row is refused. If the host asks to stop, the group at hand is dropped after its call at hand.
/// Throws what the sink throws.
Totals run(const plan::RunPlan& plan, Workers& workers, Clock& clock, Host& host, store::ResultsSink& sink,
           Progress& progress);

}  // namespace nalab::runner
