#include "report/report.h"

#include <fmt/format.h>

#include <cctype>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "core/error.h"
#include "report/draw.h"
#include "report/format.h"
#include "report/html.h"
#include "report/render.h"
#include "store/new_file.h"

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

/// The plots of a report as images; none if gnuplot is not installed.
Images draw_all(const Report& report, std::optional<std::string> (*draw)(const Plot&), bool& left_out) {
  Images images;
  for (const Chapter& chapter : report.chapters) {
    for (const Section& section : chapter.sections) {
      for (const Plot& plot : section.plots) {
        if (!has_points(plot)) continue;
        std::optional<std::string> image = draw(plot);
        // If gnuplot is missing for one plot it is missing for all.
        if (!image) {
          left_out = true;
          return images;
        }
        images.emplace(plot.name, std::move(*image));
      }
    }
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

Report make_report(const std::vector<store::Results>& files, const Options& options) {
  Report report;
  std::vector<store::Results> results;
  std::set<std::string> variants;
  for (const store::Results& file : files) {
    if (file.rows.empty() && file.simulations.empty()) {
      report.empty_files.push_back(file.path);
      continue;
    }
    for (const store::Row& row : file.rows) variants.insert(row.variant);
    results.push_back(file);
  }
  if (results.empty()) {
    throw Error(fmt::format("there is nothing to report: {} {} no finished row", enumerate(report.empty_files),
                            report.empty_files.size() == 1 ? "holds" : "hold"));
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

std::vector<std::string> notes_of(const Report& report) {
  std::vector<std::string> notes;
  for (const std::string& path : report.empty_files) {
    notes.push_back(
        fmt::format("{} holds no finished row and is left out.", std::filesystem::path(path).filename().string()));
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

Written write_report(const Report& report, const std::string& folder, const Formats& formats) {
  if (folder.empty()) throw Error("the name of the folder to write to is empty");
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!std::filesystem::is_directory(folder, error))
    throw Error(fmt::format("{}: cannot be created as a folder", folder));

  Written written;
  const auto write = [&](const std::string& name, const std::string& text) {
    written.paths.push_back((std::filesystem::path(folder) / name).string());
    store::NewFile(written.paths.back()).commit(text);
  };
  if (formats.html) write("index.html", to_html(report, draw_all(report, draw_svg, written.plots_left_out)));
  Images images;
  if (formats.png) images = draw_all(report, draw_png, written.plots_left_out);
  if (formats.markdown) write("report.md", markdown_document(report, !images.empty()));
  const std::vector<Table> tables = tables_of(report);
  for (const Table& table : tables) {
    if (formats.csv && !table.records.fields.empty()) write(table.name + ".csv", to_csv(table));
    if (formats.latex) write(table.name + ".tex", to_latex(table));
  }
  if (formats.latex) write("report.tex", latex_document(report, tables));
  for (const auto& [name, image] : images) write(name + ".png", image);
  return written;
}

}  // namespace nalab::report
