// What else happened on this process's CPUs while it worked: other programs, a hypervisor that took them, a quota that
// held the process back.
#pragma once

#include <filesystem>
#include <vector>

namespace nalab::environment {

/// CPU time until some moment, in seconds, on the CPUs that the process may run on.
struct CpuTimes {
  double busy = 0;       ///< of this process and all others
  double stolen = 0;     ///< that a hypervisor gave to other machines
  double throttled = 0;  ///< that the quota of the container, or of one around it, kept the process from
  double own = 0;        ///< of this process
};

/// Reads /proc/stat and the control groups beneath `root`, for the CPUs with these numbers; all in steps of 10 ms. What
/// is missing there counts as 0.
CpuTimes read_cpu_times(const std::vector<int>& cpus, const std::filesystem::path& root = "/");

/// CPUs, on average over a time.
struct Activity {
  double others = 0;     ///< that other processes kept busy
  double stolen = 0;     ///< that a hypervisor gave to others
  double throttled = 0;  ///< that a quota kept from the process
};

/// What happened in `seconds` between two moments; nothing if the time is too short for counters in steps of 10 ms.
Activity activity_between(const CpuTimes& before, const CpuTimes& after, double seconds);

/// The load of the machine, averaged over a minute; 0 if unknown.
double load_average(const std::filesystem::path& root = "/");

}  // namespace nalab::environment
