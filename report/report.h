// Results files to a report on disk.
#pragma once

#include <string>
#include <vector>

#include "report/fold.h"
#include "report/modules.h"

namespace nalab::report {

/// What to write.
struct Formats {
  bool html = true;
  bool markdown = true;
  bool csv = true;
  bool latex = true;
  bool png = false;  ///< the plots as images of their own
};

/// What the files of one machine give.
struct Chapter {
  Origin origin;
  std::vector<Section> sections;
};

struct Report {
  std::vector<Chapter> chapters;
  std::vector<std::string> empty_files = {};  ///< paths of the files that were left out: they hold no finished row
  std::string filter = {};                    ///< expression that chose the rows; empty: all
};

/// All sections of the modules for results in memory. Rows of the same machine are taken together. The names of
/// sections, of tables and of plots are unique, and claims name their tables by them.
/// Files without rows, models' among them, and simulations, such as those of a run that was interrupted early, are left
/// out and named. Throws Error if all are, or if no row is of the baseline that was asked for. `filter` is named if the
/// files hold only the rows that it picks.
Report make_report(const std::vector<store::Results>& files, const Options& options, const std::string& filter = "");

/// What files that were left out lack: "no finished row".
std::string what_is_missing(const Report& report);

/// A sentence if only some rows are shown, and one for each file that was left out.
std::vector<std::string> notes_of(const Report& report);

/// The tables in the order of the report: those of the claims first, one for each chapter that has any.
std::vector<Table> tables_of(const Report& report);

struct Written {
  std::vector<std::string> paths;
  std::vector<std::string> removed;  ///< paths of the files of an earlier report that this one does not have
  std::string why_no_plots;          ///< why plots were left out; empty if none were
};

/// Writes index.html; report.md with all tables; NAME.csv and NAME.tex for each table, and report.tex, which reads them
/// and compiles; NAME.png for each plot. Creates the folder, and removes what an earlier report left in it. Where
/// gnuplot is missing or fails, plots are left out. Throws Error if something cannot be written.
Written write_report(const Report& report, const std::string& folder_name, const Formats& formats);

}  // namespace nalab::report
