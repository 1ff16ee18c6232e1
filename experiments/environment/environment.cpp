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
#include "core/simd/peak.h"
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

/// The first word of a file; empty if there is none.
std::string word_of(const std::string& path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

/// Bytes of the data cache of a level that the first CPU sees; 0 if there is none.
int64_t cache_bytes(const std::string& level) {
  for (int i = 0; i < 8; ++i) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    if (word_of(folder + "level") != level || word_of(folder + "type") == "Instruction") continue;
    int64_t size = 0;
    char unit = ' ';
    std::ifstream(folder + "size") >> size >> unit;
    return unit == 'K' ? size << 10 : unit == 'M' ? size << 20 : size;
  }
  return 0;
}

/// Physical memory, or the limit that a container puts on it.
int64_t memory_bytes() {
  int64_t bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    int64_t limit = 0;
    if (std::ifstream(path) >> limit && limit > 0) bytes = std::min(bytes, limit);
  }
  return bytes;
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

}  // namespace

store::Environment describe(Isa isa, int threads) {
  store::Environment e;
  const Cpu cpu = describe_cpu();
  e.cpu = cpu.name;
  for (Isa supported : all_isas()) {
    if (cpu_supports(supported)) e.isas += (e.isas.empty() ? "" : " ") + std::string(name(supported));
  }
  e.isa = name(isa);
  e.cores = cpu.cores;
  e.threads = threads;
  e.l1d_bytes = cache_bytes("1");
  e.l2_bytes = cache_bytes("2");
  e.l3_bytes = cache_bytes("3");
  e.memory_bytes = memory_bytes();
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
  const auto add = [&e](const char* arithmetic, const PeakRate& rate) {
    if (rate.all_threads > 0) e.peaks.push_back({arithmetic, rate.one_thread, rate.all_threads});
  };
  add("f32_fma", measure_fma_f32(isa, workers));
  // The best instruction set is not always the one with dot products (best_isa() says why): show both rates.
  add("bf16_dot", measure_dot_bf16(cpu_supports(Isa::avx512bf16) ? Isa::avx512bf16 : isa, workers));
  e.copy_bandwidth = measure_copy_bandwidth(workers, std::max(e.l2_bytes, e.l3_bytes));
  return e;
}

}  // namespace nalab::environment
