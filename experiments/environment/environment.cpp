#include "experiments/environment/environment.h"

#include <fmt/chrono.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>
#include <string>
#include <utility>

#include "build_info.h"
#include "core/error.h"
#include "core/gpu/device.h"
#include "core/machine.h"
#include "core/simd/arithmetic.h"
#include "core/simd/peak.h"
#include "core/simd/probe.h"
#include "experiments/environment/activity.h"
#include "experiments/environment/limits.h"
#include "revision.h"

namespace nalab::environment {
namespace {

struct Cpu {
  std::string name = "unknown";
  int64_t cores = 0;  ///< physical ones
};

Cpu describe_cpu() {
  Cpu cpu;
  std::set<std::pair<std::string, std::string>> cores;
  std::ifstream file("/proc/cpuinfo");
  std::string line, package;
  while (std::getline(file, line)) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string key = line.substr(0, line.find_last_not_of("\t ", colon - 1) + 1);
    const std::string value = line.substr(std::min(colon + 2, line.size()));
    if (key == "model name") cpu.name = value;
    if (key == "physical id") package = value;
    if (key == "core id") cores.emplace(package, value);
  }
  cpu.cores = cores.empty() ? sysconf(_SC_NPROCESSORS_ONLN) : static_cast<int64_t>(cores.size());
  return cpu;
}

std::string operating_system() {
  utsname names{};
  if (uname(&names) != 0) return "unknown";
  std::ifstream file("/etc/os-release");
  const std::string key = "PRETTY_NAME=\"";
  std::string distribution, line;
  while (std::getline(file, line)) {
    if (line.starts_with(key)) distribution = line.substr(key.size(), line.size() - key.size() - 1) + ", ";
  }
  return fmt::format("{}{} {} {}", distribution, names.sysname, names.release, names.machine);
}

/// The GPU of this program, if it has one.
void describe_gpu(store::Environment& e) {
  const gpu::GpuInfo* info = gpu::backend() == nullptr ? nullptr : gpu::backend()->gpu();
  if (info == nullptr) return;
  e.gpu = info->name;
  e.gpu_driver = info->driver;
  e.gpu_multiprocessors = info->limits.multiprocessors;
  e.gpu_memory_bytes = info->memory_bytes;
  e.gpu_clock = info->clock_hz;
  e.gpu_memory_clock = info->memory_clock_hz;
  e.gpu_power_limit = info->power_limit_watts;
}

void say_not_measured(store::Environment& e, const std::string& what) {
  e.not_measured += (e.not_measured.empty() ? "" : "; ") + what;
}

}  // namespace

std::string version() { return fmt::format("nalab {}, revision {}", kVersion, kRevision); }

store::Environment describe(Isa isa, int threads) {
  store::Environment e;
  const Cpu cpu = describe_cpu();
  e.cpu = cpu.name;
  for (Isa supported : all_isas()) {
    if (cpu_supports(supported)) e.isas += (e.isas.empty() ? "" : " ") + std::string(name(supported));
  }
  e.isa = name(isa);
  describe_gpu(e);
  e.cores = cpu.cores;
  e.threads = threads;
  e.l1d_bytes = host_machine().l1d_bytes;
  e.l2_bytes = host_machine().l2_bytes;
  e.l3_bytes = host_machine().l3_bytes;
  const Limits limits = read_limits();
  e.hardware_threads = static_cast<int64_t>(limits.cpus.size());
  e.cpu_quota = limits.cpu_quota;
  e.load_average = load_average();
  e.memory_bytes = limits.physical_bytes;
  e.memory_limit_bytes = limits.memory_bytes;
  e.os = operating_system();
  e.compiler = kCompiler;
  e.flags = kFlags;
  e.libraries = kLibraries;
  e.revision = kRevision;
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  e.started = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
  return e;
}

store::Environment measure(Isa isa, Workers& workers) {
  store::Environment e = describe(isa, workers.threads());
  for (const Arithmetic& arithmetic : arithmetics()) {
    if (arithmetic.measure_peak == nullptr || !available(arithmetic, isa)) continue;
    try {
      const PeakRate rate = arithmetic.measure_peak(isa, workers);
      e.peaks.push_back({std::string(arithmetic.name), rate.one_thread, rate.all_threads});
    } catch (const Error& error) {
      say_not_measured(e, error.what());
    }
  }
  const int64_t free = read_limits().free_bytes;
  if (const int64_t bytes = copied_bytes(std::max(e.l2_bytes, e.l3_bytes), free); bytes > 0) {
    e.copy_bandwidth = measure_copy_bandwidth(workers, bytes / 4);
  } else {
    say_not_measured(e, fmt::format("copy bandwidth: a quarter of the free memory, {} MiB, is too little", free >> 22));
  }
  return e;
}

}  // namespace nalab::environment
