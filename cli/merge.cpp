// nalab merge: merges shards of a plan, or other results files, into one file.
#include "store/merge.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"

namespace nalab::cli {
namespace {

struct Options {
  std::vector<std::string> paths;
  std::string output;
  store::MergeOptions merge;
};

/// "1 file", "2 files"
std::string plural(int64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

void run(const Options& options) {
  const store::MergeSummary summary = store::merge_results(options.paths, options.output, options.merge);
  for (const std::string& warning : summary.warnings) fmt::print("warning: {}\n", warning);
  fmt::print("{}: {} and {} of {}\n", options.output, plural(summary.rows, "row"),
             plural(summary.simulations, "simulation"), plural(std::ssize(options.paths), "file"));
}

}  // namespace

void add_merge(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand(
      "merge",
      "Merge results files into one: the shards of nalab run --shard, or files with different rows. Their "
      "configurations must be equal.");
  auto options = std::make_shared<Options>();
  command->add_option("RESULTS.h5", options->paths, "Results files; their order does not matter")->required();
  command->add_option("-o,--output", options->output, "Results file to write; must not exist yet")->required();
  command->add_flag("--allow-mixed", options->merge.allow_mixed,
                    "Merge files from different machines (cpu, isa, threads) or builds, or with configurations that "
                    "the others lack: machine and build are then those of the first file only. Two different texts of "
                    "one configuration are still refused");
  command->add_flag("--allow-missing", options->merge.allow_missing,
                    "Merge even if shards, or some of their rows, are missing");
  command->callback([options] { run(*options); });
}

}  // namespace nalab::cli
