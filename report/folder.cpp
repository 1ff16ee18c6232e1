#include "report/folder.h"

#include <utf8.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/error.h"

namespace nalab::report {
namespace {

namespace fs = std::filesystem;

/// The folder, made if need be.
std::string made(const std::string& folder) {
  if (folder.empty()) throw Error("the name of the folder to write to is empty");
  std::error_code error;
  fs::create_directories(folder, error);
  if (!fs::is_directory(folder, error)) throw Error(folder + ": cannot be created as a folder");
  return folder;
}

/// The names that a list holds. A name that leads out of the folder is none.
std::vector<std::string> names_in(const std::string& list) {
  std::vector<std::string> names;
  std::ifstream file(list);
  for (std::string name; std::getline(file, name);) {
    if (!name.empty() && name.find('/') == std::string::npos && name != kReportList) names.push_back(name);
  }
  return names;
}

std::string valid_utf8(const std::string& text) {
  std::string valid;
  utf8::replace_invalid(text.begin(), text.end(), std::back_inserter(valid));
  return valid;
}

}  // namespace

ReportFolder::ReportFolder(const std::string& path)
    : folder_(made(path)), earlier_(names_in(path_of(kReportList))), list_(path_of(kReportList)) {}

std::string ReportFolder::path_of(const std::string& name) const { return (fs::path(folder_) / name).string(); }

void ReportFolder::write_text(const std::string& name, const std::string& text) { write_bytes(name, valid_utf8(text)); }

void ReportFolder::write_bytes(const std::string& name, const std::string& bytes) {
  store::NewFile(path_of(name)).commit(bytes);
  names_.push_back(name);
  paths_.push_back(path_of(name));
}

std::vector<std::string> ReportFolder::finish() {
  std::vector<std::string> removed;
  for (const std::string& name : earlier_) {
    std::error_code error;
    if (std::ranges::find(names_, name) != names_.end()) continue;
    if (!fs::is_regular_file(fs::symlink_status(path_of(name), error))) continue;
    if (fs::remove(path_of(name), error)) removed.push_back(path_of(name));
  }
  std::string text;
  for (const std::string& name : names_) text += name + "\n";
  list_.commit(text);
  return removed;
}

}  // namespace nalab::report
