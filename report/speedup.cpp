// The generic tables of any results file: how long each variant took for each problem, and how much faster that is.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/kernels/registry.h"
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

/// A table that has everything but its columns.
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
  table.caption = machine_caption(view.results.environment, {rows.begin(), rows.end()});
  if (!view.common.empty()) table.caption.push_back(view.common);
  table.caption.push_back(baseline_text(view));
  return table;
}

/// A problem and one of the variants.
struct Measurement {
  const Row* problem;
  std::string variant;
  const Row* row;  ///< null if there is none

  bool is_there() const { return row != nullptr && is_measured(*row); }
};

/// The columns that tell problems apart; `problem_of` gives the problem of a row of the table.
template <class R>
std::vector<ColumnOf<R>> problem_columns(const SpeedupView& view, const Row& (*problem_of)(const R&)) {
  std::vector<ColumnOf<R>> columns{{{"problem"}, "", [problem_of](const R& row) {
                                      const Row& problem = problem_of(row);
                                      return plain(problem.label.empty() ? problem.problem : problem.label);
                                    }}};
  for (const Trait<Row>& trait : view.traits) {
    columns.push_back({{trait.heading, "", trait.is_number}, "", [problem_of, text = trait.text](const R& row) {
                         return plain(text(problem_of(row)));
                       }});
  }
  return columns;
}

/// The time of a measurement; "failed" or "not run" with the reason if there is none.
Value time_value(const SpeedupView& view, const Measurement& m) {
  if (m.row == nullptr) return {"not run", "", m.variant + " was not asked for, or the run ended before it"};
  if (!m.is_there()) return {m.row->status == "failed" ? "failed" : "not run", "", why_not_measured(*m.row)};
  return plain(significant(figures_of(view.results.environment, *m.row).median * 1e3, 4));
}

Value speedup_value(const SpeedupView& view, const Measurement& m) {
  const Speedup over = speedup(view, *m.problem, *m.row);
  return over.value ? Value{significant(*over.value, 3) + "x", "", over.note} : absent(over.note);
}

/// A column's value of measurements that are there, otherwise "-".
template <class F>
auto if_there(F value) {
  return [value](const Measurement& m) { return m.is_there() ? value(m) : plain("-"); };
}

Table overview(const SpeedupView& view) {
  Table table = start_table(view, view.name + "_overview", view.title + ": overview");
  std::vector<ColumnOf<Row>> columns = problem_columns<Row>(view, [](const Row& row) -> const Row& { return row; });
  for (const std::string& variant : view.variants) {
    const auto of_variant = [&view, variant](auto value) {
      return [&view, variant, value](const Row& problem) {
        return value(Measurement{&problem, variant, view.index.counterpart(problem, variant)});
      };
    };
    columns.push_back(
        {{"ms", variant, true}, "", of_variant([&](const Measurement& m) { return time_value(view, m); })});
    if (variant == view.baseline) continue;
    columns.push_back({{"speedup", variant, true}, "", of_variant(if_there([&](const Measurement& m) {
                         return speedup_value(view, m);
                       }))});
  }
  std::vector<Row> problems;
  for (const Row* problem : view.problems) problems.push_back(*problem);
  fill(table, columns, problems);
  return table;
}

Value percent(std::optional<double> share, const std::string& why_not) {
  return share ? plain(fmt::format("{:.1f}", *share * 100)) : absent(why_not);
}

std::vector<ColumnOf<Measurement>> detail_columns(const SpeedupView& view) {
  using R = Measurement;
  std::vector<ColumnOf<R>> columns = problem_columns<R>(view, [](const R& m) -> const Row& { return *m.problem; });
  const auto figures = [&](const R& m) { return figures_of(view.results.environment, *m.row); };
  const std::vector<ColumnOf<R>> list{
      {{"variant"}, "", [](const R& m) { return plain(m.variant); }},
      {{"median ms", "", true}, "", [&](const R& m) { return time_value(view, m); }},
      {{"spread %", "", true}, "", if_there([=](const R& m) {
         return percent(figures(m).spread, "one sample has no spread");
       })},
      {{"speedup", "", true}, "", if_there([&](const R& m) { return speedup_value(view, m); })},
      {{"GFLOP/s", "", true}, "", if_there([=](const R& m) { return plain(significant(figures(m).rate / 1e9, 3)); })},
      {{"peak %", "", true}, "", if_there([=](const R& m) {
         return percent(figures(m).peak_share, why_no_peak(*m.row));
       })},
      {{"error", "", true}, "", if_there([](const R& m) {
         return plain(fmt::format("{:.1e}", m.row->error_frobenius));
       })},
      {{"verified", "", true}, "", if_there([](const R& m) {
         return plain(m.row->verified_queries == m.row->total_queries
                          ? "all"
                          : fmt::format("{} of {}", m.row->verified_queries, m.row->total_queries));
       })},
      {{"samples", "", true}, "", if_there([](const R& m) { return plain(exact(std::ssize(m.row->samples))); })},
  };
  columns.insert(columns.end(), list.begin(), list.end());
  return columns;
}

Records records_of(const SpeedupView& view) {
  Records records;
  store::Row::visit_fields(view.results.rows.front(),
                           [&](const char* name, const auto&, const char*) { records.fields.emplace_back(name); });
  for (const char* name : {"median_seconds", "spread", "useful_flops_per_second", "peak_share", "speedup",
                           "speedup_over", "baseline_samples", "cpu", "revision", "started"}) {
    records.fields.emplace_back(name);
  }
  const auto text = [](std::optional<double> value) { return value ? exact(*value) : std::string(); };
  for (const Row& row : view.results.rows) {
    if (row.config != view.config) continue;
    std::vector<std::string> line;
    store::Row::visit_fields(row, [&](const char*, const auto& value, const char*) { line.push_back(exact(value)); });
    if (is_measured(row)) {
      const Figures figures = figures_of(view.results.environment, row);
      const Speedup over = speedup(view, row, row);
      line.insert(line.end(), {exact(figures.median), text(figures.spread), exact(figures.rate),
                               text(figures.peak_share), text(over.value), view.baseline,
                               over.value ? exact(static_cast<int64_t>(over.baseline_samples)) : ""});
    } else {
      line.insert(line.end(), 7, "");
    }
    const store::Environment& environment = view.results.environment;
    line.insert(line.end(), {environment.cpu, environment.revision, environment.started});
    records.lines.push_back(std::move(line));
  }
  return records;
}

Table details(const SpeedupView& view) {
  Table table = start_table(view, view.name, view.title + ": all figures");
  table.caption.emplace_back(
      "GFLOP/s and % of peak count useful FLOPs only; the error is the largest Frobenius error relative to the double "
      "reference; verified: how many queries were compared with it.");
  table.is_detail = true;
  std::vector<Measurement> measurements;
  for (const Row* problem : view.problems) {
    for (const std::string& variant : view.variants) {
      measurements.push_back({problem, variant, view.index.counterpart(*problem, variant)});
    }
  }
  fill(table, detail_columns(view), measurements);
  table.records = records_of(view);
  return table;
}

/// The rows of one device alone, since variants are compared with those beside them. On a GPU that is its own self
/// attention; the bandwidth that was measured is not the GPU's.
Results on_device(const Results& results, Device device) {
  Results some = results;
  std::erase_if(some.rows,
                [&](const Row& row) { return ran_on_gpu(results.environment, row) != (device == Device::cuda); });
  if (device == Device::cpu) return some;
  some.environment.copy_bandwidth = 0;
  for (const Variant& variant : variants()) {
    if (variant.device != device || !variant.self_attention_only) continue;
    for (store::StoredConfig& config : some.configs) config.baseline = variant.name;
  }
  return some;
}

}  // namespace

std::vector<Section> speedup_sections(const Results& results, const Options& options) {
  std::vector<Section> sections;
  for (const Device device : {Device::cpu, Device::cuda}) {
    const Results some = on_device(results, device);
    std::vector<std::string> configs;
    for (const Row& row : some.rows) {
      if (std::find(configs.begin(), configs.end(), row.config) == configs.end()) configs.push_back(row.config);
    }
    for (const std::string& config : configs) {
      const RowIndex index(some.rows, config);
      const SpeedupView view = make_view(some, index, config, device, options);
      if (view.problems.empty()) continue;
      Section section;
      section.name = view.name;
      section.title = view.title;
      section.plots = speedup_plots(view);
      section.tables = {overview(view), details(view)};
      sections.push_back(std::move(section));
    }
  }
  return sections;
}

}  // namespace nalab::report
