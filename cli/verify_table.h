// The table that nalab verify prints line by line.
#pragma once

#include <string>
#include <vector>

#include "cli/terminal_table.h"
#include "core/tensor/element.h"
#include "experiments/verification/compare_tensors.h"
#include "store/cases.h"

namespace nalab::cli {

class VerifyTable {
 public:
  /// What a line is about.
  struct Line {
    std::string name;     ///< of the case or row
    std::string variant;  ///< with its tiling if several are compared
    ElementType type;
    const char* compared;  ///< what is compared with what
  };

  /// Prints the heading. `names` are all names that may appear in the first column.
  explicit VerifyTable(const std::vector<std::string>& names);

  /// One line with the errors that are greatest relative to their bounds, and one more for each tensor that does not
  /// agree.
  void add(const Line& line, const store::CaseOutputs& outputs, const verification::VerificationResult& result,
           const std::string& remark = "");
  void skip(const std::string& name, const std::string& variant, ElementType type, const std::string& reason);

  /// Prints the totals. Returns the exit code: 1 if anything did not agree. Throws Error if nothing was compared.
  int finish(const std::string& path) const;

 private:
  TerminalTable table_;
  int agreeing_ = 0, failed_ = 0, skipped_ = 0;
};

}  // namespace nalab::cli
