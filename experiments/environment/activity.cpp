#include "experiments/environment/activity.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>

#include "experiments/environment/limits.h"

namespace nalab::environment {

namespace {

namespace fs = std::filesystem;

/// Below this, a tick more or less would say much.
constexpr double kShortestSeconds = 0.2;

/// "cpu3" -> 3; -1 for the sum over all CPUs and for other lines.
int cpu_number(const std::string& word) {
  int number = -1;
  if (word.starts_with("cpu")) std::from_chars(word.data() + 3, word.data() + word.size(), number);
  return number;
}

void add_cpus(const fs::path& file, const std::vector<int>& cpus, CpuTimes& times) {
  const auto ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    double user = 0, nice = 0, system = 0, idle = 0, io_wait = 0, irq = 0, soft_irq = 0, steal = 0;
    words >> name >> user >> nice >> system >> idle >> io_wait >> irq >> soft_irq >> steal;
    if (std::ranges::find(cpus, cpu_number(name)) == cpus.end()) continue;
    times.busy += (user + nice + system + irq + soft_irq) / ticks_per_second;
    times.stolen += steal / ticks_per_second;
  }
}

/// Seconds that one group was held back; version 2 counts microseconds, version 1 nanoseconds.
double throttled_seconds(const fs::path& group) {
  std::ifstream lines(group / "cpu.stat");
  std::string name;
  double value = 0;
  while (lines >> name >> value) {
    if (name == "throttled_usec") return value * 1e-6;
    if (name == "throttled_time") return value * 1e-9;
  }
  return 0;
}

double own_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

CpuTimes read_cpu_times(const std::vector<int>& cpus, const fs::path& root) {
  CpuTimes times;
  add_cpus(root / "proc/stat", cpus, times);
  for (const fs::path& group : control_groups("cpu", root)) times.throttled += throttled_seconds(group);
  times.own = own_seconds();
  return times;
}

Activity activity_between(const CpuTimes& before, const CpuTimes& after, double seconds) {
  if (seconds < kShortestSeconds) return {};
  const auto cpus = [&](double of_time) { return std::max(of_time / seconds, 0.0); };
  return {.others = cpus((after.busy - before.busy) - (after.own - before.own)),
          .stolen = cpus(after.stolen - before.stolen),
          .throttled = cpus(after.throttled - before.throttled)};
}

double load_average(const fs::path& root) {
  double load = 0;
  std::ifstream(root / "proc/loadavg") >> load;
  return load;
}

}  // namespace nalab::environment
