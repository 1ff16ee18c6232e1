// Results files to a report on disk.
#pragma once

#include <string>
#include <vector>

#include "report/modules.h"

namespace nalab::report {

/// What to write.
struct Formats {
  bool markdown = true;
  bool csv = true;
  bool latex = true;
};

struct Report {
  std::vector<Section> sections;
};

/// All sections of the modules for results in memory. The names of sections, tables and plots are unique, and so are
/// the claims' references to tables.
/// Throws Error where a file has neither rows nor simulations, or no row is of the baseline that was asked for.
Report make_report(const std::vector<store::Results>& results, const Options& options);

/// Writes report.md with all tables, NAME.csv, NAME.tex for each, and report.tex, which reads them and compiles.
/// Creates the folder. Gives the paths written. Throws Error where one cannot be written.
std::vector<std::string> write_report(const Report& report, const std::string& folder, const Formats& formats);

}  // namespace nalab::report
