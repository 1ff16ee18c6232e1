// The machine that this process runs on.
#pragma once

#include <vector>

#include "core/parallel.h"
#include "core/simd/isa.h"
#include "experiments/environment/activity.h"
#include "experiments/runner/clock.h"
#include "experiments/runner/host.h"

namespace nalab::runner {

/// Watches by the system's counters, and by a short measurement of the peak between groups.
class ThisHost : public Host {
 public:
  /// `stop` tells whether the user wants the run to end.
  ThisHost(Isa isa, Workers& workers, Clock& clock, bool (*stop)());

  int64_t free_memory_bytes() override;
  bool asked_to_stop() override { return asked_to_stop_(); }
  void watch() override;
  Observation observe() override;

 private:
  Isa isa_;
  Workers& workers_;
  Clock& clock_;
  bool (*asked_to_stop_)();
  std::vector<int> cpus_;  ///< those that the process may run on
  environment::CpuTimes since_;
  double since_seconds_ = 0;
  bool knows_peak_memory_ = false;
  double peak_ = 0;  ///< measured last: after one group is before the next
};

}  // namespace nalab::runner
