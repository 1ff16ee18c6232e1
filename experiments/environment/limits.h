// What this process may use of the machine: memory and CPUs, as the machine, its containers and the process's own
// limits leave them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace nalab::environment {

/// Who sets the least limit on memory.
enum class MemoryLimiter : uint8_t { machine, container, process };

struct Limits {
  int64_t physical_bytes = 0;  ///< memory of the machine
  /// The least of: the memory of the machine; the limits of the container, those that contain it included; what the
  /// limits on address space and data leave to a process as large as this one is now.
  int64_t memory_bytes = 0;
  MemoryLimiter limiter = MemoryLimiter::machine;
  int64_t free_bytes = 0;  ///< of that, what nobody uses now; memory that holds files counts as free
  std::vector<int> cpus;   ///< those that the process may run on, by number
  double cpu_quota = 0;    ///< CPUs' worth of time that the container may use; 0: no limit
};

/// Reads /proc and the control groups, version 1 or 2, beneath `root`. What is missing there is no limit.
Limits read_limits(const std::filesystem::path& root = "/");

/// Folders of the control groups that this process is in for a controller, the innermost first; empty if there is none.
std::vector<std::filesystem::path> control_groups(const std::string& controller,
                                                  const std::filesystem::path& root = "/");

/// "the machine has", "the container allows" or "the limits of the process leave".
const char* clause(MemoryLimiter limiter);

/// Why the times of so many threads are doubtful here: "64 threads share 2 CPUs"; empty if each has one to itself.
std::string crowding(int threads, int64_t cpus, double cpu_quota);

}  // namespace nalab::environment
