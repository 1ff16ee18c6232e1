// The table that nalab verify prints line by line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/compute_case.h"
#include "cli/terminal_table.h"

namespace nalab::cli {

class VerifyTable {
 public:
  /// What a line is about.
  struct Line {
    std::string name;  ///< of the case or row
    std::string_view variant;
    ElementType type;
    const char* compared;  ///< what is compared with what
  };

  /// Prints the heading. `names` are all names that may appear in the first column.
  explicit VerifyTable(const std::vector<std::string>& names);

  /// One line with the errors that are greatest relative to their bounds, and one more for each tensor that does not
  /// agree.
  void add(const Line& line, const store::CaseOutputs& outputs, const std::vector<TensorComparison>& comparisons,
           const std::string& remark = "");
  void skip(const std::string& name, std::string_view variant, ElementType type, const std::string& reason);

  /// Prints the totals. Returns the exit code: 1 if anything did not agree. Throws Error if nothing was compared.
  int finish(const std::string& path) const;

 private:
  TerminalTable table_;
  int agreeing_ = 0, failed_ = 0, skipped_ = 0;
};

}  // namespace nalab::cli
