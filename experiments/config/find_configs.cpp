// Where configurations are looked for.
#include <filesystem>
#include <set>

#include "core/error.h"
#include "experiments/config/config.h"

namespace nalab::config {

namespace fs = std::filesystem;

std::vector<std::string> config_folders() {
  std::vector<std::string> folders{"configs"};
  std::error_code code;
  const fs::path executable = fs::read_symlink("/proc/self/exe", code);
  if (!code) folders.push_back((executable.parent_path() / NALAB_CONFIGS_FROM_EXECUTABLE).lexically_normal().string());
  folders.emplace_back(NALAB_SOURCE_CONFIGS);
  return folders;
}

std::vector<std::string> find_configs(const std::vector<std::string>& folders) {
  std::string looked_in;
  for (const std::string& folder : folders) {
    std::set<std::string> paths;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(folder, code)) {
      if (entry.path().extension() == ".yaml") paths.insert(entry.path().string());
    }
    if (!paths.empty()) return {paths.begin(), paths.end()};
    looked_in += (looked_in.empty() ? "" : ", ") + folder;
  }
  throw Error("there are no configurations (*.yaml) in any of " + looked_in);
}

}  // namespace nalab::config
