// nalab compare: two runs, row by row.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/terminal_table.h"
#include "core/error.h"
#include "experiments/comparison/comparison.h"
#include "experiments/filter/filter.h"
#include "experiments/plan/units.h"
#include "report/format.h"
#include "report/render.h"
#include "store/new_file.h"
#include "store/results.h"
#include "store/samples.h"

namespace nalab::cli {
namespace {

using comparison::Pair;
using comparison::RatioVerdict;

struct Options {
  std::string a, b;
  std::string filter;
  std::optional<double> fail_above;
  std::string csv;
};

bool is_timed(const store::TimedRow* row) { return row != nullptr && !row->samples.empty(); }

std::string time_text(const store::TimedRow* row) {
  return is_timed(row) ? plan::seconds_text(store::median(row->samples)) : "-";
}

std::string samples_text(const Pair& pair) {
  const auto count = [](const store::TimedRow* row) { return row == nullptr ? 0 : row->samples.size(); };
  return fmt::format("{}, {}", count(pair.a), count(pair.b));
}

void print_table(const std::vector<Pair>& pairs) {
  using enum TerminalTable::Align;
  TerminalTable table({{"B / A", right},
                       {"95 % interval", left},
                       {"A", right},
                       {"B", right},
                       {"samples", right},
                       {"verdict", left},
                       {"row", left}});
  for (const Pair& pair : pairs) {
    const comparison::Interval* const interval = pair.interval();
    table.add({pair.ratio ? fmt::format("{:.3f}", pair.ratio->value) : "-",
               interval ? fmt::format("{:.3f} to {:.3f}", interval->low, interval->high) : "-", time_text(pair.a),
               time_text(pair.b), samples_text(pair), comparison::name(pair.verdict), pair.row().id});
    if (!pair.reason.empty()) table.add_note("    " + pair.reason);
  }
  fmt::print("{}", table.to_string());
}

void print_summary(const std::vector<Pair>& pairs) {
  const comparison::Summary summary = comparison::summarize(pairs);
  std::string text = fmt::format("{} {} compared", summary.compared, summary.compared == 1 ? "row" : "rows");
  if (summary.compared > 0) text += fmt::format(": geometric mean of B / A {:.3f}", summary.geometric_mean);
  for (std::size_t verdict = 0; verdict < summary.counts.size(); ++verdict) {
    if (summary.counts[verdict] == 0) continue;
    text += fmt::format("; {} {}", summary.counts[verdict], comparison::name(static_cast<RatioVerdict>(verdict)));
  }
  fmt::print("{}\n", text);
  if (summary.counts[static_cast<std::size_t>(RatioVerdict::too_few)] > 0) {
    fmt::print("An interval needs {} samples from each run: see timing: min_samples in the configuration\n",
               comparison::kMinSamples);
  }
}

/// One line for each pair, numbers in full precision.
void write_csv(const std::string& path, const std::vector<Pair>& pairs) {
  report::Table table;
  table.records.fields = {"row",   "config",    "label",      "variant",   "type",
                          "pass",  "samples_a", "samples_b",  "seconds_a", "seconds_b",
                          "ratio", "ratio_low", "ratio_high", "verdict",   "reason"};
  for (const Pair& pair : pairs) {
    const store::TimedRow& row = pair.row();
    const auto samples = [](const store::TimedRow* r) {
      return r == nullptr ? "" : report::exact(std::ssize(r->samples));
    };
    const auto seconds = [](const store::TimedRow* r) {
      return is_timed(r) ? report::exact(store::median(r->samples)) : "";
    };
    const comparison::Interval* const interval = pair.interval();
    table.records.lines.push_back(
        {row.id, row.config, row.label, row.variant, row.type, row.pass, samples(pair.a), samples(pair.b),
         seconds(pair.a), seconds(pair.b), pair.ratio ? report::exact(pair.ratio->value) : "",
         interval ? report::exact(interval->low) : "", interval ? report::exact(interval->high) : "",
         comparison::name(pair.verdict), pair.reason});
  }
  store::NewFile(path).commit(report::to_csv(table));
}

/// The last line: rows that are neither compared nor known to be wrong do not count in the lines above.
void print_unjudged(const std::vector<Pair>& pairs) {
  const auto unjudged = std::ranges::count_if(
      pairs, [](const Pair& pair) { return pair.interval() == nullptr && pair.verdict != RatioVerdict::now_failed; });
  if (unjudged == 0) return;
  fmt::print("{} {} could not be judged: too few samples, no times, or in only one of the files\n", unjudged,
             unjudged == 1 ? "row" : "rows");
}

int run(const Options& options) {
  if (const auto& percent = options.fail_above; percent && !(std::isfinite(*percent) && *percent >= 0)) {
    throw Error(fmt::format("--fail-above: must be a percentage of at least 0, got {}", *percent));
  }
  require_another_file(options.csv, {options.a, options.b});
  const Filter filter("--filter", options.filter);
  store::Results a = store::read_results(options.a);
  store::Results b = store::read_results(options.b);
  if (keep_matching(a, filter) + keep_matching(b, filter) == 0 && !options.filter.empty()) {
    throw Error(fmt::format("--filter '{}' matches no row of {} or {}", options.filter, options.a, options.b));
  }
  const std::vector<Pair> pairs = comparison::compare(a, b);
  if (!options.csv.empty()) write_csv(options.csv, pairs);
  fmt::print("A: {}\nB: {}\n", a.path, b.path);
  for (const std::string& warning : comparison::warnings(a, b)) fmt::print("warning: {}\n", warning);
  print_table(pairs);
  print_summary(pairs);
  int exit_code = 0;
  if (options.fail_above) {
    const auto failing = std::ranges::count_if(pairs, [&](const Pair& p) { return fails(p, *options.fail_above); });
    fmt::print("{} {} slower by more than {} % or with a wrong result\n", failing, failing == 1 ? "row is" : "rows are",
               *options.fail_above);
    if (failing > 0) exit_code = 1;
  }
  print_unjudged(pairs);
  return exit_code;
}

}  // namespace

void add_compare(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("compare",
                         "Compare two results files row by row: the ratio of the median times, B over A, with a 95 % "
                         "interval that assumes nothing about the distribution of the samples. The interval is made of "
                         "order statistics of both runs and needs " +
                             std::to_string(comparison::kMinSamples) + " samples from each.");
  auto options = std::make_shared<Options>();
  command->add_option("A.h5", options->a, "Results before")->required();
  command->add_option("B.h5", options->b, "Results after")->required();
  add_filter(*command, options->filter);
  add_number(*command, "--fail-above", options->fail_above,
             "PERCENT: exit with 1 if the whole interval of a row lies above 1 + PERCENT / 100, or if B has a wrong "
             "result that A does not have; rows with too few samples for an interval do not count");
  command->add_option("--csv", options->csv, "File to write the table to, numbers in full precision")
      ->check(not_empty());
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace nalab::cli
