// The simulator's figures next to the published ones: a table for each published table.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "report/format.h"
#include "report/modules.h"
#include "report/traits.h"

namespace nalab::report {
namespace {

using store::Results;
using store::SimulationRow;

/// Published figures have two decimals, and not all of them are rounded alike. The rest allows for the
/// rounding of doubles.
constexpr double kTolerance = 0.01 + 1e-9;

/// The rows of one published table.
struct View {
  const Results& results;
  std::vector<const SimulationRow*> rows;
  std::vector<Trait<SimulationRow>> traits;  ///< in which the rows differ, those of every table aside
  std::string common;                        ///< sentence on the traits that they share
};

std::string dilation_text(const SimulationRow& row) {
  return is_everywhere(1, "dilation", row.dilation) ? "none" : row.dilation;
}

std::string causal_text(const SimulationRow& row) { return is_everywhere(0, "causal", row.causal) ? "no" : row.causal; }

std::vector<Trait<SimulationRow>> all_traits() {
  using Row = SimulationRow;
  return {
      {"layout", [](const Row& row) { return row.layout; }},
      {"dilation", dilation_text, false, "none"},
      {"causal", causal_text, false, "no"},
      {"extra tokens", [](const Row& row) { return exact(row.extra_tokens); }, true, "0"},
      {"KV tiling", [](const Row& row) { return row.kv_tiling; }},
      {"attention share", [](const Row& row) { return fmt::format("{:.1f}%", row.attention_share * 100); }, true},
      {"steps", [](const Row& row) { return exact(row.steps); }, true},
      {"speedup of attention",
       [](const Row& row) { return row.round_speedup != 0 ? "rounded to one decimal first" : "not rounded"; }, false,
       "not rounded"},
  };
}

/// Own figure minus the published one; none if none is published.
std::optional<double> difference(double own, double published) {
  return published == 0 ? std::nullopt : std::optional(own - published);
}

struct SimulationVerdict {
  std::optional<double> flops, simulated;  ///< differences, own less published

  explicit SimulationVerdict(const SimulationRow& row)
      : flops(difference(row.end_to_end_flops, row.published_flops)),
        simulated(difference(row.end_to_end_simulated, row.published_simulated)) {}

  bool is_compared() const { return flops || simulated; }
  /// The larger one, by size.
  double worst() const {
    const double a = flops.value_or(0), b = simulated.value_or(0);
    return std::abs(a) > std::abs(b) ? a : b;
  }
  bool is_reproduced() const { return is_compared() && std::abs(worst()) <= kTolerance; }
  std::string difference_text() const { return fmt::format("differs by {:+.3f}", worst()); }

  std::string text(const SimulationRow& row) const {
    if (!is_compared()) return "-";
    if (is_reproduced()) return "reproduced";
    return row.exception.empty() ? difference_text() : "known exception";
  }
};

View make_view(const Results& results, const SimulationRow& first) {
  View view{results, {}, all_traits(), {}};
  for (const SimulationRow& row : results.simulations) {
    if (row.config == first.config && row.table == first.table) view.rows.push_back(&row);
  }
  view.common = take_common(view.traits, view.rows);
  return view;
}

/// The label that all rows have, otherwise the names of config and table.
std::string title_of(const View& view) {
  const SimulationRow& first = *view.rows.front();
  const bool same = std::all_of(view.rows.begin(), view.rows.end(),
                                [&](const SimulationRow* row) { return row->label == first.label; });
  return same && !first.label.empty() ? first.label : first.config + ": " + first.table;
}

std::vector<std::string> caption_of(const View& view, bool compared) {
  const store::Environment& environment = view.results.environment;
  std::vector<std::string> caption{
      fmt::format("Counted by the simulator; nothing was run; git revision {}; {}.", environment.revision,
                  environment.started),
      "Speedups are over self attention. FLOP-wise counts attended pairs; simulated counts the KV tiles that the worst "
      "query tile visits; end to end is the speedup of the application, by Amdahl's law from its share of attention."};
  if (!view.common.empty()) caption.push_back(view.common);
  if (compared) {
    const auto reproduced = std::count_if(view.rows.begin(), view.rows.end(), [](const SimulationRow* row) {
      return SimulationVerdict(*row).is_reproduced();
    });
    caption.push_back(
        fmt::format("Reproduced: both end-to-end figures are within 0.01 of the published ones, as in {} "
                    "of {} rows. Actual: measured by the publication.",
                    reproduced, view.rows.size()));
  }
  return caption;
}

/// "-" if there is no such figure.
Value speedup_value(double speedup) { return plain(speedup == 0 ? "-" : fmt::format("{:.2f}x", speedup)); }

Value verdict_value(const SimulationRow& row) {
  const SimulationVerdict verdict(row);
  const bool excused = verdict.is_compared() && !verdict.is_reproduced() && !row.exception.empty();
  return {verdict.text(row), "", excused ? verdict.difference_text() + ": " + row.exception : ""};
}

Records records_of(const View& view) {
  Records records;
  store::SimulationRow::visit_fields(
      *view.rows.front(), [&](const char* name, const auto&, const char*) { records.fields.emplace_back(name); });
  for (const char* name : {"difference_flops", "difference_simulated", "verdict", "revision", "started"}) {
    records.fields.emplace_back(name);
  }
  const auto text = [](std::optional<double> value) { return value ? exact(*value) : std::string(); };
  for (const SimulationRow* row : view.rows) {
    std::vector<std::string> line;
    store::SimulationRow::visit_fields(
        *row, [&](const char*, const auto& value, const char*) { line.push_back(exact(value)); });
    const SimulationVerdict verdict(*row);
    const store::Environment& environment = view.results.environment;
    line.insert(line.end(), {text(verdict.flops), text(verdict.simulated), verdict.text(*row), environment.revision,
                             environment.started});
    records.lines.push_back(std::move(line));
  }
  return records;
}

/// With the published figures and the verdict if some row has published figures.
std::vector<ColumnOf<SimulationRow>> columns_of(const View& view, bool compared) {
  using R = SimulationRow;
  std::vector<ColumnOf<R>> columns;
  const auto text = [&](const char* heading, auto value, bool is_number = false) {
    columns.push_back({{heading, "", is_number}, "", [value](const R& row) { return plain(value(row)); }});
  };
  const auto tile = [&](const char* heading, std::string R::*extents) {
    columns.push_back({{heading}, "", [extents](const R& row) {
                         return Value{row.*extents, "", row.tiles_note.empty() ? "" : "tiles: " + row.tiles_note};
                       }});
  };
  const auto speedup = [&](const char* heading, const char* group, double R::*figure) {
    columns.push_back({{heading, group, true}, "", [figure](const R& row) { return speedup_value(row.*figure); }});
  };
  for (const Trait<R>& trait : view.traits) text(trait.heading, trait.text, trait.is_number);
  text("window", [](const R& row) { return row.window; });
  text("stride", [](const R& row) { return row.stride; });
  text(
      "steps of self attention", [](const R& row) { return exact(row.dense_steps); }, true);
  tile("query tile", &R::q_tile);
  tile("KV tile", &R::kv_tile);
  speedup("FLOP-wise", "attention", &R::speedup_flops);
  speedup("simulated", "attention", &R::speedup_worst);
  if (compared) speedup("published", "end to end FLOP-wise", &R::published_flops);
  speedup("own", "end to end FLOP-wise", &R::end_to_end_flops);
  if (compared) speedup("published", "end to end simulated", &R::published_simulated);
  speedup("own", "end to end simulated", &R::end_to_end_simulated);
  if (compared) {
    speedup("published", "end to end actual", &R::published_actual);
    columns.push_back({{"verdict"}, "", verdict_value});
  }
  return columns;
}

Table table_of(const View& view) {
  const bool compared = std::any_of(view.rows.begin(), view.rows.end(),
                                    [](const SimulationRow* row) { return SimulationVerdict(*row).is_compared(); });
  Table table;
  table.name = view.rows.front()->config + "_" + view.rows.front()->table;
  table.title = title_of(view);
  table.caption = caption_of(view, compared);
  std::vector<SimulationRow> rows;
  for (const SimulationRow* row : view.rows) rows.push_back(*row);
  fill(table, columns_of(view, compared), rows);
  table.records = records_of(view);
  return table;
}

}  // namespace

std::vector<Section> simulation_sections(const Results& results, const Options&) {
  Section section;
  section.name = "simulations";
  section.title = "What the simulator says";
  std::vector<std::pair<std::string, std::string>> seen;
  for (const SimulationRow& row : results.simulations) {
    const std::pair<std::string, std::string> key{row.config, row.table};
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) continue;
    seen.push_back(key);
    section.tables.push_back(table_of(make_view(results, row)));
  }
  if (section.tables.empty()) return {};
  return {section};
}

}  // namespace nalab::report
