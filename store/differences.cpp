#include "store/differences.h"

#include <array>
#include <map>
#include <sstream>

namespace nalab::store {

namespace {

constexpr std::array kOfMachineAndBuild{"cpu",     "isa",      "gpu",   "gpu_power_limit",
                                        "threads", "compiler", "flags", "revision"};

std::map<std::string, std::string> texts(const Environment& environment) {
  std::map<std::string, std::string> result;
  Environment::visit_fields(environment, [&](const char* name, const auto& field, const char*) {
    std::ostringstream text;
    text << field;
    result[name] = text.str();
  });
  return result;
}

void compare_lines(const std::string& what, const std::string& first, const std::string& second,
                   std::vector<Difference>& found) {
  std::istringstream a(first), b(second);
  for (int line = 1;; ++line) {
    std::string x, y;
    const bool more_of_first = static_cast<bool>(std::getline(a, x));
    const bool more_of_second = static_cast<bool>(std::getline(b, y));
    if (!more_of_first && !more_of_second) return;
    if (x == y && more_of_first == more_of_second) continue;
    found.push_back({what + ": line " + std::to_string(line), x, y});
    return;
  }
}

}  // namespace

std::vector<Difference> differences(const Environment& first, const Environment& second) {
  std::vector<Difference> found;
  const auto a = texts(first), b = texts(second);
  for (const char* field : kOfMachineAndBuild) {
    if (a.at(field) != b.at(field)) found.push_back({field, a.at(field), b.at(field)});
  }
  return found;
}

std::vector<Difference> differences(const std::vector<StoredConfig>& first, const std::vector<StoredConfig>& second) {
  std::vector<Difference> found;
  std::map<std::string, std::string> resolved;
  for (const StoredConfig& config : second) resolved[config.name] = config.resolved;
  for (const StoredConfig& config : first) {
    const std::string what = "config " + config.name;
    const auto same_name = resolved.extract(config.name);
    if (same_name.empty()) {
      found.push_back({what, config.resolved, std::nullopt});
    } else {
      compare_lines(what, config.resolved, same_name.mapped(), found);
    }
  }
  for (const auto& [name, text] : resolved) found.push_back({"config " + name, std::nullopt, text});
  return found;
}

}  // namespace nalab::store
