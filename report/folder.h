// The folder that a report is written to.
#pragma once

#include <string>
#include <vector>

#include "store/new_file.h"

namespace nalab::report {

/// Holds one report: it keeps a list of the files that a report wrote (kReportList), so that the next one can remove
/// those that it does not write again. Files of other people stay.
class ReportFolder {
 public:
  /// Creates the folder. Throws Error if files cannot be written in it: this is known before any plot is drawn.
  explicit ReportFolder(const std::string& path);

  /// Bytes that are no valid UTF-8, which names of files and old results may hold, become U+FFFD.
  void write_text(const std::string& name, const std::string& text);
  void write_bytes(const std::string& name, const std::string& bytes);

  /// Paths of what was written.
  const std::vector<std::string>& paths() const { return paths_; }
  /// Removes the files of an earlier report that were not written again, and returns their paths. To be called once, at
  /// the end.
  std::vector<std::string> finish();

 private:
  std::string path_of(const std::string& name) const;

  std::string folder_;
  std::vector<std::string> earlier_;  ///< names
  store::NewFile list_;
  std::vector<std::string> names_, paths_;
};

inline constexpr const char* kReportList = ".nalab_report";

}  // namespace nalab::report
