#include "experiments/environment/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>

namespace nalab::environment {

namespace {

namespace fs = std::filesystem;

/// A whole number; nullopt for "max", "unlimited" and anything else.
std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// The number that a file holds and nothing else.
std::optional<int64_t> number_in(const fs::path& path) {
  std::string word;
  if (!(std::ifstream(path) >> word)) return std::nullopt;
  return number(word);
}

/// The number after a key at the beginning of a line: "MemTotal:   123 kB".
std::optional<int64_t> number_after(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    std::string word;
    if (std::istringstream(line.substr(key.size())) >> word) return number(word);
  }
  return std::nullopt;
}

bool lists(const std::string& comma_separated, const std::string& word) {
  return ("," + comma_separated + ",").find("," + word + ",") != std::string::npos;
}

/// Where control groups are mounted: which of them the mount point shows, and the mount point.
struct Mount {
  fs::path group, point;
};

/// The hierarchy of a controller of version 1; that of version 2 for an empty name.
std::optional<Mount> find_mount(const std::string& controller, const fs::path& root) {
  std::ifstream file(root / "proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string id, parent, device, group, point, word, type, source, options;
    words >> id >> parent >> device >> group >> point;
    while (words >> word && word != "-") continue;
    words >> type >> source >> options;
    const bool is_wanted = controller.empty() ? type == "cgroup2" : type == "cgroup" && lists(options, controller);
    if (is_wanted) return Mount{group, root / fs::path(point).relative_path()};
  }
  return std::nullopt;
}

/// The path of this process's group in that hierarchy.
std::optional<fs::path> find_group(const std::string& controller, const fs::path& root) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? controllers.empty() : lists(controllers, controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

void add_groups(const std::string& controller, const fs::path& root, std::vector<fs::path>& folders) {
  const auto mount = find_mount(controller, root);
  const auto group = find_group(controller, root);
  if (!mount || !group) return;
  // Within a container the mount point is often its own group, whatever the group is called outside.
  fs::path relative = group->lexically_relative(mount->group);
  if (relative.empty() || *relative.begin() == "..") relative = ".";
  for (; relative != "." && !relative.empty(); relative = relative.parent_path()) {
    folders.push_back(mount->point / relative);
  }
  folders.push_back(mount->point);
}

/// Keeps the least limit, and the least of what limits leave.
void limit(Limits& limits, MemoryLimiter limiter, std::optional<int64_t> bytes, int64_t used) {
  if (!bytes || *bytes < 0) return;
  if (*bytes < limits.memory_bytes) {
    limits.memory_bytes = *bytes;
    limits.limiter = limiter;
  }
  limits.free_bytes = std::min(limits.free_bytes, std::max<int64_t>(*bytes - used, 0));
}

void limit_by_machine(Limits& limits, const fs::path& root) {
  const fs::path meminfo = root / "proc/meminfo";
  constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
  const auto bytes = [&](const char* key) -> std::optional<int64_t> {
    const auto kibibytes = number_after(meminfo, key);
    return kibibytes ? std::optional(*kibibytes << 10) : std::nullopt;
  };
  limits.physical_bytes = bytes("MemTotal:").value_or(0);
  limits.memory_bytes = limits.physical_bytes > 0 ? limits.physical_bytes : kNoLimit;
  limits.free_bytes = bytes("MemAvailable:").value_or(limits.memory_bytes);
}

void limit_by_containers(Limits& limits, const fs::path& root) {
  for (const fs::path& group : control_groups("memory", root)) {
    const fs::path stat = group / "memory.stat";
    // Version 2, then version 1, where a group tells the limits of those above it that cannot be seen from here.
    const int64_t used =
        number_in(group / "memory.current").value_or(0) + number_in(group / "memory.usage_in_bytes").value_or(0);
    const int64_t files = std::max(number_after(stat, "inactive_file ").value_or(0),
                                   number_after(stat, "total_inactive_file ").value_or(0));
    for (const char* name : {"memory.max", "memory.high", "memory.limit_in_bytes"}) {
      limit(limits, MemoryLimiter::container, number_in(group / name), used - files);
    }
    limit(limits, MemoryLimiter::container, number_after(stat, "hierarchical_memory_limit "), used - files);
  }
}

void limit_by_process(Limits& limits, const fs::path& root) {
  const fs::path file = root / "proc/self/limits", status = root / "proc/self/status";
  for (const auto& [limited, used] : {std::pair{"Max address space ", "VmSize:"}, {"Max data size ", "VmData:"}}) {
    const auto bytes = number_after(file, limited);
    if (!bytes) continue;
    const int64_t left = std::max<int64_t>(*bytes - (number_after(status, used).value_or(0) << 10), 0);
    limit(limits, MemoryLimiter::process, left, 0);
  }
}

/// "0-2,5"
std::vector<int> parse_cpus(const std::string& list) {
  std::vector<int> cpus;
  std::istringstream words(list);
  for (std::string word; std::getline(words, word, ',');) {
    const std::size_t dash = word.find('-');
    const auto first = number(word.substr(0, dash));
    const auto last = dash == std::string::npos ? first : number(word.substr(dash + 1));
    if (!first || !last) continue;
    for (int64_t cpu = *first; cpu <= *last; ++cpu) cpus.push_back(static_cast<int>(cpu));
  }
  return cpus;
}

std::vector<int> allowed_cpus(const fs::path& root) {
  std::ifstream file(root / "proc/self/status");
  const std::string key = "Cpus_allowed_list:";
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t begin = line.find_first_not_of(" \t", key.size());
    return begin == std::string::npos ? std::vector<int>{} : parse_cpus(line.substr(begin));
  }
  return {};
}

/// CPUs' worth of time by one group's files; 0 if it has no limit.
double quota_of(const fs::path& group) {
  std::string quota, period;
  std::ifstream(group / "cpu.max") >> quota >> period;
  auto time = number(quota), interval = number(period);
  if (!time) {
    time = number_in(group / "cpu.cfs_quota_us");
    interval = number_in(group / "cpu.cfs_period_us");
  }
  if (!time || !interval || *time <= 0 || *interval <= 0) return 0;
  return static_cast<double>(*time) / static_cast<double>(*interval);
}

}  // namespace

std::vector<fs::path> control_groups(const std::string& controller, const fs::path& root) {
  std::vector<fs::path> folders;
  add_groups(controller, root, folders);
  add_groups("", root, folders);
  return folders;
}

Limits read_limits(const fs::path& root) {
  Limits limits;
  limit_by_machine(limits, root);
  limit_by_containers(limits, root);
  limit_by_process(limits, root);
  limits.cpus = allowed_cpus(root);
  for (const fs::path& group : control_groups("cpu", root)) {
    const double quota = quota_of(group);
    if (quota > 0 && (limits.cpu_quota == 0 || quota < limits.cpu_quota)) limits.cpu_quota = quota;
  }
  return limits;
}

const char* clause(MemoryLimiter limiter) {
  switch (limiter) {
    case MemoryLimiter::machine:
      return "the machine has";
    case MemoryLimiter::container:
      return "the container allows";
    case MemoryLimiter::process:
      return "the limits of the process leave";
  }
  return "";
}

std::string crowding(int threads, int64_t cpus, double cpu_quota) {
  if (cpus > 0 && threads > cpus) {
    return fmt::format("{} threads share {} CPU{}: times are doubtful", threads, cpus, cpus == 1 ? "" : "s");
  }
  if (cpu_quota > 0 && threads > cpu_quota) {
    return fmt::format("{} threads share the time of {:.3g} CPUs, the container's quota: times are doubtful", threads,
                       cpu_quota);
  }
  return {};
}

}  // namespace nalab::environment
