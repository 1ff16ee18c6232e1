// The machine that a run is on, and whoever may stop it: a collaborator, so that tests can fake them.
#pragma once

#include <cstdint>

namespace nalab::runner {

/// What the machine did while the rows of a group ran. See store::Row for the fields of the same names.
struct Observation {
  double cpus_others = 0, cpus_stolen = 0, cpus_throttled = 0;
  double peak_before = 0, peak_after = 0;
  int64_t peak_memory_bytes = 0;
};

class Host {
 public:
  virtual ~Host() = default;
  /// What this process may still allocate.
  virtual int64_t free_memory_bytes() = 0;
  /// Whether the run should end, without the rows that it is working on.
  virtual bool asked_to_stop() = 0;
  /// Begins to watch: the rows of a group are about to run.
  virtual void watch() = 0;
  /// What was seen since then.
  virtual Observation observe() = 0;
};

}  // namespace nalab::runner
