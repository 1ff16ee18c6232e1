#include "report/report.h"

#include <fmt/format.h>

#include <cctype>
#include <filesystem>
#include <map>
#include <set>

#include "core/error.h"
#include "report/draw.h"
#include "report/folder.h"
#include "report/format.h"
#include "report/gnuplot.h"
#include "report/html.h"
#include "report/render.h"

namespace nalab::report {
namespace {

/// Makes a name fit for a file, and changes it if it is taken.
std::string unique_name(std::string name, std::set<std::string>& taken) {
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '.') c = '_';
  }
  std::string result = name;
  for (int i = 2; !taken.insert(result).second; ++i) result = fmt::format("{}_{}", name, i);
  return result;
}

/// Gives the tables and plots of a section names of their own.
void make_names_unique(Section& section, std::set<std::string>& section_names, std::set<std::string>& file_names) {
  section.name = unique_name(std::move(section.name), section_names);
  std::map<std::string, std::string> renamed;
  for (Table& table : section.tables) {
    const std::string old = table.name;
    table.name = unique_name(old, file_names);
    renamed[old] = table.name;
  }
  for (Plot& plot : section.plots) plot.name = unique_name(std::move(plot.name), file_names);
  for (Claim& claim : section.claims) {
    if (const auto found = renamed.find(claim.table); found != renamed.end()) claim.table = found->second;
  }
}

std::string latex_document(const Report& report, const std::vector<Table>& tables) {
  std::string text =
      "\\documentclass{article}\n"
      "\\usepackage[T1]{fontenc}\n"
      "\\usepackage[utf8]{inputenc}\n"
      "\\usepackage[a3paper,landscape,margin=15mm]{geometry}\n"
      "\\usepackage{booktabs,longtable}\n"
      "\\setlength{\\LTcapwidth}{\\textwidth}\n"
      "\\setlength{\\tabcolsep}{4pt}\n"
      "\\begin{document}\n"
      "\\footnotesize\n";
  for (const std::string& note : notes_of(report)) text += escape_latex(note) + "\n\n";
  for (const Table& table : tables) text += fmt::format("\\input{{{}.tex}}\n\\clearpage\n", table.name);
  return text + "\\end{document}\n";
}

/// The plots of a report as images. If one of them cannot be drawn there are none, and `why_not` says why.
Images draw_all(const Report& report, std::string (*draw)(const Plot&), std::string& why_not) {
  Images images;
  try {
    for (const Chapter& chapter : report.chapters) {
      for (const Section& section : chapter.sections) {
        for (const Plot& plot : section.plots) {
          if (has_points(plot)) images.emplace(plot.name, draw(plot));
        }
      }
    }
  } catch (const GnuplotError& error) {
    why_not = error.what();
    images.clear();
  }
  return images;
}

/// The claims of each machine that has any: its verdicts are its own. If there are several machines, each table names
/// its own.
std::vector<Table> claims_tables(const Report& report) {
  std::vector<Table> tables;
  std::set<std::string> names;
  for (const Chapter& chapter : report.chapters) {
    std::vector<Claim> claims;
    for (const Section& section : chapter.sections) {
      claims.insert(claims.end(), section.claims.begin(), section.claims.end());
    }
    if (claims.empty()) continue;
    Table table = claims_table(claims);
    table.name = unique_name(kClaims, names);
    if (report.chapters.size() > 1) table.caption.insert(table.caption.begin(), chapter.origin.machine + ".");
    tables.push_back(std::move(table));
  }
  return tables;
}

std::string markdown_document(const Report& report, bool has_images) {
  std::string text = "# Report\n";
  for (const std::string& note : notes_of(report)) text += "\n" + escape_markdown(note) + "\n";
  // Claims come first.
  for (const Table& table : claims_tables(report)) text += "\n" + to_markdown(table);
  for (const Chapter& chapter : report.chapters) {
    for (const Section& section : chapter.sections) {
      for (const Plot& plot : section.plots) {
        if (has_images && has_points(plot))
          text += fmt::format("\n![{}]({}.png)\n", escape_markdown(plot.title), plot.name);
      }
      for (const Table& table : section.tables) text += "\n" + to_markdown(table);
    }
  }
  return text;
}

}  // namespace

Report make_report(const std::vector<store::Results>& files, const Options& options, const std::string& filter) {
  Report report;
  report.filter = filter;
  std::vector<store::Results> results;
  std::set<std::string> variants;
  for (const store::Results& file : files) {
    if (file.rows.empty() && file.models.empty() && file.simulations.empty()) {
      report.empty_files.push_back(file.path);
      continue;
    }
    for (const store::Row& row : file.rows) variants.insert(row.variant);
    for (const store::ModelRow& row : file.models) variants.insert(row.variant);
    results.push_back(file);
  }
  if (results.empty()) {
    throw Error(fmt::format("there is nothing to report: {} {} {}", enumerate(report.empty_files),
                            report.empty_files.size() == 1 ? "holds" : "hold", what_is_missing(report)));
  }
  if (!options.baseline.empty() && !variants.contains(options.baseline)) {
    throw Error(fmt::format("baseline '{}' is not among the variants in the results: {}", options.baseline,
                            fmt::join(variants, ", ")));
  }
  std::set<std::string> section_names, file_names{"index", "report"};
  std::vector<Folded> machines = fold(results);
  for (std::size_t i = 0; i < machines.size(); ++i) unique_name(kClaims, file_names);  // keeps them for claims_tables()
  for (Folded& folded : machines) {
    Chapter chapter{std::move(folded.origin), {}};
    for (const Module& module : modules()) {
      for (Section& section : module.sections(folded.results, options)) {
        make_names_unique(section, section_names, file_names);
        chapter.sections.push_back(std::move(section));
      }
    }
    report.chapters.push_back(std::move(chapter));
  }
  return report;
}

std::string what_is_missing(const Report& report) {
  return report.filter.empty() ? "no finished row" : "no finished row that the filter picks";
}

std::vector<std::string> notes_of(const Report& report) {
  std::vector<std::string> notes;
  if (!report.filter.empty()) {
    notes.push_back(fmt::format("Only rows whose id or label matches {} are shown, and what they are compared with.",
                                report.filter));
  }
  for (const std::string& path : report.empty_files) {
    notes.push_back(fmt::format("{} holds {} and is left out.", std::filesystem::path(path).filename().string(),
                                what_is_missing(report)));
  }
  return notes;
}

std::vector<Table> tables_of(const Report& report) {
  std::vector<Table> tables = claims_tables(report);
  for (const Chapter& chapter : report.chapters) {
    for (const Section& section : chapter.sections) {
      tables.insert(tables.end(), section.tables.begin(), section.tables.end());
    }
  }
  return tables;
}

Written write_report(const Report& report, const std::string& folder_name, const Formats& formats) {
  ReportFolder folder(folder_name);
  Written written;
  if (formats.html) {
    const Images images = draw_all(report, draw_svg, written.why_no_plots);
    folder.write_text("index.html", to_html(report, images, written.why_no_plots));
  }
  Images images;
  if (formats.png) images = draw_all(report, draw_png, written.why_no_plots);
  if (formats.markdown) folder.write_text("report.md", markdown_document(report, !images.empty()));
  const std::vector<Table> tables = tables_of(report);
  for (const Table& table : tables) {
    if (formats.csv && !table.records.fields.empty()) folder.write_text(table.name + ".csv", to_csv(table));
    if (formats.latex) folder.write_text(table.name + ".tex", to_latex(table));
  }
  if (formats.latex) folder.write_text("report.tex", latex_document(report, tables));
  for (const auto& [name, image] : images) folder.write_bytes(name + ".png", image);
  written.removed = folder.finish();
  written.paths = folder.paths();
  return written;
}

}  // namespace nalab::report
