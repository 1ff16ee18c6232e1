// The generic tables of any results file: how long each variant took for each problem, and how much faster that is.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "report/caption.h"
#include "report/figures.h"
#include "report/format.h"
#include "report/modules.h"
#include "report/speedup_view.h"

namespace nalab::report {
namespace {

using store::Results;
using store::Row;

std::string baseline_text(const SpeedupView& view) {
  if (view.baseline.empty()) return "There is no baseline.";
  const bool whole = view.index.only_self_attention(view.baseline);
  return fmt::format("Speedups are over {}{}.", view.baseline,
                     whole ? ": self attention of the same tensors over the whole layout" : " on the same problem");
}

/// A table that has everything but its columns of figures.
Table start_table(const SpeedupView& view, const std::string& name, const std::string& title) {
  std::vector<const Row*> rows;
  for (const Row* problem : view.problems) {
    for (const std::string& variant : view.variants) {
      if (const Row* row = view.index.counterpart(*problem, variant)) rows.push_back(row);
    }
  }
  Table table;
  table.name = name;
  table.title = title;
  table.caption = machine_caption(view.results.environment, rows);
  if (!view.common.empty()) table.caption.push_back(view.common);
  table.caption.push_back(baseline_text(view));
  table.columns.push_back({"problem", "", false});
  for (const Trait<Row>& trait : view.traits) table.columns.push_back({trait.heading, "", trait.is_number});
  return table;
}

std::vector<Cell> problem_cells(const SpeedupView& view, const Row& problem) {
  std::vector<Cell> cells{{problem.label.empty() ? problem.problem : problem.label}};
  for (const Trait<Row>& trait : view.traits) cells.push_back({trait.text(problem)});
  return cells;
}

/// The cell of a time that is not there. `row` may be null.
Cell no_time(Table& table, const Row* row, const std::string& variant) {
  if (row == nullptr) return {"not run", table.footnote(variant + " was not asked for, or the run ended before it")};
  return {row->status == "failed" ? "failed" : "not run", table.footnote(why_not_measured(*row))};
}

Cell time_cell(const SpeedupView& view, const Row& row) {
  return {significant(figures_of(view.results.environment, row).median * 1e3, 4)};
}

Cell speedup_cell(const SpeedupView& view, Table& table, const Row& problem, const Row& row) {
  std::string why;
  const std::optional<double> value = speedup(view, problem, row, why);
  return value ? Cell{significant(*value, 3) + "x"} : Cell{"n/a", table.footnote(why)};
}

Table overview(const SpeedupView& view) {
  Table table = start_table(view, view.config + "_overview", view.config + ": overview");
  for (const std::string& variant : view.variants) {
    table.columns.push_back({"ms", variant, true});
    if (variant != view.baseline) table.columns.push_back({"speedup", variant, true});
  }
  for (const Row* problem : view.problems) {
    std::vector<Cell> cells = problem_cells(view, *problem);
    for (const std::string& variant : view.variants) {
      const Row* row = view.index.counterpart(*problem, variant);
      const bool measured = row != nullptr && is_measured(*row);
      cells.push_back(measured ? time_cell(view, *row) : no_time(table, row, variant));
      if (variant != view.baseline) cells.push_back(measured ? speedup_cell(view, table, *problem, *row) : Cell{"-"});
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

/// Median to samples, as details() heads them.
std::vector<Cell> figure_cells(const SpeedupView& view, Table& table, const Row& problem, const Row& row) {
  const Figures figures = figures_of(view.results.environment, row);
  const auto percent = [&](std::optional<double> share, const char* why_not) {
    return share ? Cell{fmt::format("{:.1f}", *share * 100)} : Cell{"n/a", table.footnote(why_not)};
  };
  return {
      time_cell(view, row),
      percent(figures.spread, "one sample has no spread"),
      speedup_cell(view, table, problem, row),
      {significant(figures.rate / 1e9, 3)},
      percent(figures.peak_share, "the peak was not measured with this instruction set and number of threads"),
      {fmt::format("{:.1e}", row.error_frobenius)},
      {row.verified_queries == row.total_queries ? "all"
                                                 : fmt::format("{} of {}", row.verified_queries, row.total_queries)},
      {exact(static_cast<int64_t>(row.samples.size()))},
  };
}

Records records_of(const SpeedupView& view) {
  Records records;
  store::Row::visit_fields(view.results.rows.front(),
                           [&](const char* name, const auto&, const char*) { records.fields.emplace_back(name); });
  for (const char* name : {"median_seconds", "spread", "useful_flops_per_second", "peak_share", "speedup",
                           "speedup_over", "cpu", "revision", "started"}) {
    records.fields.emplace_back(name);
  }
  const auto text = [](std::optional<double> value) { return value ? exact(*value) : std::string(); };
  for (const Row& row : view.results.rows) {
    if (row.config != view.config) continue;
    std::vector<std::string> line;
    store::Row::visit_fields(row, [&](const char*, const auto& value, const char*) { line.push_back(exact(value)); });
    if (is_measured(row)) {
      const Figures figures = figures_of(view.results.environment, row);
      std::string why;
      line.insert(line.end(), {exact(figures.median), text(figures.spread), exact(figures.rate),
                               text(figures.peak_share), text(speedup(view, row, row, why)), view.baseline});
    } else {
      line.insert(line.end(), 6, "");
    }
    const store::Environment& environment = view.results.environment;
    line.insert(line.end(), {environment.cpu, environment.revision, environment.started});
    records.lines.push_back(std::move(line));
  }
  return records;
}

Table details(const SpeedupView& view) {
  Table table = start_table(view, view.config, view.config + ": all figures");
  table.caption.emplace_back(
      "GFLOP/s and % of peak count useful FLOPs only; the error is the greatest Frobenius error relative to the double "
      "reference; verified: how many queries were compared with it.");
  table.is_detail = true;
  table.columns.push_back({"variant", "", false});
  const std::vector<const char*> headings{"median ms", "spread %", "speedup",  "GFLOP/s",
                                          "peak %",    "error",    "verified", "samples"};
  for (const char* heading : headings) table.columns.push_back({heading, "", true});
  for (const Row* problem : view.problems) {
    for (const std::string& variant : view.variants) {
      std::vector<Cell> cells = problem_cells(view, *problem);
      cells.push_back({variant});
      const Row* row = view.index.counterpart(*problem, variant);
      if (row != nullptr && is_measured(*row)) {
        for (Cell& cell : figure_cells(view, table, *problem, *row)) cells.push_back(std::move(cell));
      } else {
        cells.push_back(no_time(table, row, variant));
        cells.resize(table.columns.size(), Cell{"-"});
      }
      table.rows.push_back(std::move(cells));
    }
  }
  table.records = records_of(view);
  return table;
}

}  // namespace

std::vector<Section> speedup_sections(const Results& results, const Options& options) {
  std::vector<std::string> configs;
  for (const Row& row : results.rows) {
    if (std::find(configs.begin(), configs.end(), row.config) == configs.end()) configs.push_back(row.config);
  }
  std::vector<Section> sections;
  for (const std::string& config : configs) {
    const RowIndex index(results.rows, config);
    const SpeedupView view = make_view(results, index, config, options);
    if (view.problems.empty()) continue;
    Section section;
    section.name = section.title = config;
    section.plots = speedup_plots(view);
    section.tables = {overview(view), details(view)};
    sections.push_back(std::move(section));
  }
  return sections;
}

}  // namespace nalab::report
