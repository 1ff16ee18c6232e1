// nalab merge: shards of a plan, or other results files, folded into one.
#include "store/merge.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "experiments/cli/commands.h"

namespace nalab::cli {
namespace {

struct Options {
  std::vector<std::string> paths;
  std::string output;
  store::MergeOptions merge;
};

void run(const Options& options) {
  const store::MergeSummary summary = store::merge_results(options.paths, options.output, options.merge);
  for (const std::string& warning : summary.warnings) fmt::print("warning: {}\n", warning);
  fmt::print("{}: {} rows and {} simulations of {} files\n", options.output, summary.rows, summary.simulations,
             options.paths.size());
}

}  // namespace

void add_merge(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand(
      "merge", "Fold results files into one: the shards of nalab run --shard, or files of different rows.");
  auto options = std::make_shared<Options>();
  command->add_option("RESULTS.h5", options->paths, "Results files; their order does not matter")->required();
  command->add_option("-o,--output", options->output, "Results file to write; must not exist yet")->required();
  command->add_flag("--allow-mixed", options->merge.allow_mixed,
                    "Merge files of different machines (cpu, isa, threads), builds or configurations: what is said of "
                    "machine and build is then true of the first file alone");
  command->add_flag("--allow-missing", options->merge.allow_missing,
                    "Merge although shards or rows of them are missing");
  command->callback([options] { run(*options); });
}

}  // namespace nalab::cli
