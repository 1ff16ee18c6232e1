// nalab report: tables from results files.
#include "report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "experiments/cli/commands.h"
#include "store/results.h"

namespace nalab::cli {
namespace {

struct Options {
  std::vector<std::string> paths;
  std::string folder = "report_out";
  std::vector<std::string> formats{"md", "csv", "tex"};
  std::string baseline;
};

bool contains(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

void run(const Options& options) {
  std::vector<store::Results> results;
  for (const std::string& path : options.paths) results.push_back(store::read_results(path));
  const report::Report report = report::make_report(results, {options.baseline});
  const report::Formats formats{contains(options.formats, "md"), contains(options.formats, "csv"),
                                contains(options.formats, "tex")};
  for (const std::string& path : report::write_report(report, options.folder, formats)) fmt::print("{}\n", path);
}

}  // namespace

void add_report(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("report", "Make tables from results files: Markdown, CSV, LaTeX.");
  auto options = std::make_shared<Options>();
  command->add_option("RESULTS.h5", options->paths, "Results files")->required();
  command->add_option("-o,--output", options->folder, "Folder to write to")->capture_default_str();
  command->add_option("--format", options->formats, "Some of md, csv, tex, separated by commas (default: all)")
      ->delimiter(',')
      ->check(CLI::IsMember({"md", "csv", "tex"}));
  command->add_option("--baseline", options->baseline,
                      "Variant that speedups are over (default: the config's, or naive where that was not asked for)");
  command->callback([options] { run(*options); });
}

}  // namespace nalab::cli
