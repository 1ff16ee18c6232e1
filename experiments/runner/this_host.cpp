#include "experiments/runner/this_host.h"

#include "core/simd/probe.h"
#include "experiments/environment/limits.h"
#include "experiments/environment/peak_memory.h"

namespace nalab::runner {

namespace {

/// Groups that take less are watched together with those just before them: the counters have steps of 10 ms.
constexpr double kWatchSeconds = 1;

}  // namespace

ThisHost::ThisHost(Isa isa, Workers& workers, Clock& clock, bool (*stop)())
    : isa_(isa),
      workers_(workers),
      clock_(clock),
      asked_to_stop_(stop),
      cpus_(environment::read_limits().cpus),
      since_(environment::read_cpu_times(cpus_)),
      since_seconds_(clock.seconds()) {}

int64_t ThisHost::free_memory_bytes() { return environment::read_limits().free_bytes; }

void ThisHost::watch() {
  knows_peak_memory_ = environment::reset_peak_memory();
  if (peak_ == 0) peak_ = probe_fma_f32(isa_, workers_);
  if (clock_.seconds() - since_seconds_ < kWatchSeconds) return;
  since_ = environment::read_cpu_times(cpus_);
  since_seconds_ = clock_.seconds();
}

Observation ThisHost::observe() {
  const environment::Activity activity =
      environment::activity_between(since_, environment::read_cpu_times(cpus_), clock_.seconds() - since_seconds_);
  const double before = peak_;
  peak_ = probe_fma_f32(isa_, workers_);
  const int64_t peak_memory = knows_peak_memory_ ? environment::peak_memory_bytes() : 0;
  return {activity.others, activity.stolen, activity.throttled, before, peak_, peak_memory};
}

}  // namespace nalab::runner
