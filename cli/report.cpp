// nalab report: a page, tables and plots from results files.
#include "report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/options.h"
#include "experiments/filter/filter.h"
#include "store/results.h"

namespace nalab::cli {
namespace {

struct Options {
  std::vector<std::string> paths;
  std::string folder = "report_out";
  std::vector<std::string> formats{"html", "md", "csv", "tex"};
  bool png = false;
  std::string baseline, filter;
};

bool contains(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

void run(const Options& options) {
  const Filter filter("--filter", options.filter);
  std::vector<store::Results> results;
  for (const std::string& path : options.paths) {
    results.push_back(store::read_results(path));
    keep_matching(results.back(), filter, AlsoKept::self_attention);
  }
  const report::Report report = report::make_report(results, {options.baseline}, options.filter);
  for (const std::string& path : report.empty_files) {
    fmt::print(stderr, "nalab: {}: holds {} and is left out\n", path, report::what_is_missing(report));
  }
  const report::Formats formats{contains(options.formats, "html"), contains(options.formats, "md"),
                                contains(options.formats, "csv"), contains(options.formats, "tex"), options.png};
  const report::Written written = report::write_report(report, options.folder, formats);
  for (const std::string& path : written.paths) fmt::print("{}\n", path);
  for (const std::string& path : written.removed) {
    fmt::print(stderr, "nalab: {}: removed, since it was of an earlier report\n", path);
  }
  if (!written.why_no_plots.empty()) fmt::print(stderr, "nalab: plots are left out: {}\n", written.why_no_plots);
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
  add_filter(*command, options->filter);
  command->add_flag("--png", options->png, "Write each plot as a PNG image too (needs gnuplot)");
  command->add_option(
      "--baseline", options->baseline,
      "Variant that speedups are relative to (default: the one in the config, or naive if it was not run)");
  command->callback([options] { run(*options); });
}

}  // namespace nalab::cli
