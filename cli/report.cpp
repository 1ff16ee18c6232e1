// nalab report: a page, tables and plots from results files.
#include "report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "store/results.h"

namespace nalab::cli {
namespace {

struct Options {
  std::vector<std::string> paths;
  std::string folder = "report_out";
  std::vector<std::string> formats{"html", "md", "csv", "tex"};
  bool png = false;
  std::string baseline;
};

bool contains(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

void run(const Options& options) {
  std::vector<store::Results> results;
  for (const std::string& path : options.paths) results.push_back(store::read_results(path));
  const report::Report report = report::make_report(results, {options.baseline});
  for (const std::string& path : report.empty_files) {
    fmt::print(stderr, "nalab: {}: holds no finished row and is left out\n", path);
  }
  const report::Formats formats{contains(options.formats, "html"), contains(options.formats, "md"),
                                contains(options.formats, "csv"), contains(options.formats, "tex"), options.png};
  const report::Written written = report::write_report(report, options.folder, formats);
  for (const std::string& path : written.paths) fmt::print("{}\n", path);
  if (written.plots_left_out) fmt::print(stderr, "nalab: plots are left out: gnuplot is not installed\n");
}

}  // namespace

void add_report(CLI::App& app, int&) {
  CLI::App* command =
      app.add_subcommand("report", "Make a page, tables and plots from results files: HTML, Markdown, CSV, LaTeX.");
  auto options = std::make_shared<Options>();
  command->add_option("RESULTS.h5", options->paths, "Results files")->required();
  command->add_option("-o,--output", options->folder, "Folder to write to")->capture_default_str();
  command->add_option("--format", options->formats, "Some of html, md, csv, tex, separated by commas (default: all)")
      ->delimiter(',')
      ->check(CLI::IsMember({"html", "md", "csv", "tex"}));
  command->add_flag("--png", options->png, "Write each plot as a PNG image too (needs gnuplot)");
  command->add_option(
      "--baseline", options->baseline,
      "Variant that speedups are relative to (default: the one in the config, or naive if it was not run)");
  command->callback([options] { run(*options); });
}

}  // namespace nalab::cli
