// Whole models of any results: all figures of each row.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "report/caption.h"
#include "report/figures.h"
#include "report/format.h"
#include "report/modules.h"
#include "report/traits.h"
#include "store/samples.h"

namespace nalab::report {
namespace {

using R = store::ModelRow;

std::vector<Trait<R>> all_traits() {
  return {
      {"configuration", [](const R& row) { return row.config; }},
      {"images", [](const R& row) { return fmt::format("{}x{}", row.height, row.width); }},
      {"batch", [](const R& row) { return exact(row.batch); }, true},
      {"positional biases", [](const R& row) { return std::string(row.relative_bias != 0 ? "yes" : "no"); }},
      {"pass", [](const R& row) { return pass_text(row.pass); }},
      {"type", [](const R& row) { return row.type; }},
  };
}

/// A column's value of rows that have times, otherwise "-".
template <class F>
auto if_measured(F value) {
  return [value](const R& row) { return is_measured(row) ? value(row) : plain("-"); };
}

Value time_value(const R& row) {
  if (!is_measured(row)) return {row.status == "failed" ? "failed" : "not run", "", why_not_measured(row)};
  return plain(significant(store::median(row.samples) * 1e3, 4));
}

Value spread_value(const R& row) {
  if (row.samples.size() < 2) return absent("one sample has no spread");
  return plain(fmt::format("{:.1f}", store::spread(row.samples) * 100));
}

std::vector<ColumnOf<R>> columns_of(const std::vector<Trait<R>>& traits) {
  std::vector<ColumnOf<R>> columns{{{"model"}, "", [](const R& row) { return plain(row.model); }}};
  for (const Trait<R>& trait : traits) {
    columns.push_back(
        {{trait.heading, "", trait.is_number}, "", [text = trait.text](const R& row) { return plain(text(row)); }});
  }
  const std::vector<ColumnOf<R>> figures{
      {{"variant"}, "", [](const R& row) { return plain(row.variant); }},
      {{"median ms", "", true}, "", time_value},
      {{"spread %", "", true}, "", if_measured(spread_value)},
      {{"images/s", "", true}, "", if_measured([](const R& row) {
         return plain(significant(static_cast<double>(row.batch) / store::median(row.samples), 3));
       })},
      {{"attention %", "", true}, "", if_measured([](const R& row) {
         return plain(fmt::format("{:.1f}", row.attention_seconds / store::median(row.samples) * 100));
       })},
      {{"peak MB", "", true}, "", if_measured([](const R& row) {
         return row.peak_memory_bytes == 0
                    ? absent("the system did not tell it")
                    : plain(fmt::format("{:.0f}", static_cast<double>(row.peak_memory_bytes) / 1e6));
       })},
      {{"error", "", true}, "", if_measured([](const R& row) {
         return row.verified.empty() ? absent(row.reason) : plain(fmt::format("{:.1e}", row.error_frobenius));
       })},
      {{"verified"}, "", if_measured([](const R& row) { return plain(row.verified.empty() ? "-" : row.verified); })},
      {{"samples", "", true}, "", if_measured([](const R& row) { return plain(exact(std::ssize(row.samples))); })},
  };
  columns.insert(columns.end(), figures.begin(), figures.end());
  return columns;
}

Records records_of(const store::Results& results) {
  Records records;
  R::visit_fields(results.models.front(),
                  [&](const char* name, const auto&, const char*) { records.fields.emplace_back(name); });
  for (const char* name : {"median_seconds", "spread", "cpu", "revision", "started"}) records.fields.emplace_back(name);
  for (const R& row : results.models) {
    std::vector<std::string> line;
    R::visit_fields(row, [&](const char*, const auto& value, const char*) { line.push_back(exact(value)); });
    line.push_back(is_measured(row) ? exact(store::median(row.samples)) : "");
    line.push_back(is_measured(row) && row.samples.size() > 1 ? exact(store::spread(row.samples)) : "");
    line.insert(line.end(), {results.environment.cpu, results.environment.revision, results.environment.started});
    records.lines.push_back(std::move(line));
  }
  return records;
}

}  // namespace

std::vector<Section> model_sections(const store::Results& results, const Options&) {
  if (results.models.empty()) return {};
  std::vector<const R*> rows;
  for (const R& row : results.models) rows.push_back(&row);
  std::vector<Trait<R>> traits = all_traits();
  const std::string common = take_common(traits, rows);

  Table table;
  table.name = "models";
  table.title = "Whole models: all figures";
  table.is_detail = true;
  table.caption = machine_caption(results.environment, {rows.begin(), rows.end()});
  if (!common.empty()) table.caption.push_back(common);
  table.caption.emplace_back(
      "Times are of a whole call; attention: its share of the time, measured within the same calls. The error is the "
      "greatest of what was compared, relative to its norm.");
  fill(table, columns_of(traits), results.models);
  table.records = records_of(results);

  Section section;
  section.name = "models";
  section.title = "Whole models";
  section.tables = {std::move(table)};
  return {section};
}

}  // namespace nalab::report
