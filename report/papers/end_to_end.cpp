// Generalized Neighborhood Attention (2504.16922), tables 2 to 6: end-to-end speedups. Ours are projections: the
// speedup of attention that was measured here, put through the published share of attention by Amdahl's law.
#include <fmt/format.h>

#include <optional>
#include <string>
#include <vector>

#include "core/problem.h"
#include "core/simulator/simulator.h"
#include "report/format.h"
#include "report/modules.h"
#include "report/papers/generalized_na.h"
#include "report/papers/published.h"

namespace nalab::report {
namespace {

using Extents = std::vector<int64_t>;

/// One of the published tables.
struct Publication {
  std::string name;   ///< "table2_flux"
  std::string model;  ///< "FLUX.1-dev (4K)"
  YAML::Node rows;
  YAML::Node use_case;
  int64_t dense_steps = 0;             ///< of a table that does not list them
  std::optional<double> seconds = {};  ///< of self attention throughout, end to end

  /// "Table 2: FLUX.1-dev (4K)"
  std::string title() const { return fmt::format("Table {}: {}, end to end", name.at(5), model); }
  std::string file_name(const Lookup& lookup) const { return lookup.named("gna_end_to_end_" + name); }

  Case problem(const YAML::Node& row) const {
    return {use_case["layout"].as<Extents>(),
            row["window"].as<Extents>(),
            row["stride"].as<Extents>(),
            {},
            use_case["head_dim"].as<int64_t>()};
  }
  simulator::Application application(const YAML::Node& row) const {
    return {use_case["attention_share_e2e"].as<double>(), use_case["steps"].as<int64_t>(),
            row["sa_steps"].as<int64_t>(dense_steps)};
  }
  double project(const YAML::Node& row, double speedup) const {
    return simulator::end_to_end_speedup(speedup, application(row));
  }
};

std::vector<Publication> publications() {
  const YAML::Node& paper = published("gna2025");
  std::vector<Publication> list;
  for (const auto& [name, model] : kGnaTables) {
    const YAML::Node& node = paper[name];
    Publication publication{name, model, node.IsSequence() ? node : node["rows"], paper["use_cases"][model]};
    if (node.IsMap()) {
      publication.seconds = node["self_attention_seconds"].as<double>();
      publication.dense_steps = node["sa_steps"].as<int64_t>(0);
    }
    list.push_back(std::move(publication));
  }
  return list;
}

/// A published row with what was measured of it in some types.
struct EndToEndRow {
  YAML::Node row;
  Case problem;
  simulator::Application application;
  std::vector<Measured> measured;  ///< in the order of the types
};

/// A published row and one of its types.
struct ProjectedRow {
  const EndToEndRow* shared;
  std::string type;
  Measured ours;

  double projected() const { return simulator::end_to_end_speedup(ours.speedup(), shared->application); }
  Value attention_value() const {
    return ours ? speedup_value(ours.speedup(), ours.few_samples()) : absent(ours.why_not);
  }
  Value projected_value() const { return ours ? speedup_value(projected(), ours.few_samples()) : absent(ours.why_not); }
};

/// The published figures of a row.
struct PublishedFigure {
  const char* heading;
  const char* field;  ///< of the records
  const char* key;    ///< in data/published/gna2025.yaml
};
constexpr PublishedFigure kPublished[] = {{"FLOP-wise", "published_flop_wise", "flops"},
                                          {"simulated", "published_simulated", "simulated"},
                                          {"actual", "published_actual", "actual"}};

/// A row for each published one, with columns for each type.
std::vector<ColumnOf<EndToEndRow>> shown_columns(const Publication& publication,
                                                 const std::vector<std::string>& types) {
  using R = EndToEndRow;
  std::vector<ColumnOf<R>> columns{
      {{"window"}, "", [](const R& row) { return plain(extents_text(row.problem.window)); }},
      {{"stride"}, "", [](const R& row) { return plain(extents_text(row.problem.stride)); }},
      {{"steps of self attention", "", true}, "", [](const R& row) {
         return plain(fmt::format("{} of {}", row.application.dense_steps, row.application.steps));
       }}};
  for (const PublishedFigure& figure : kPublished) {
    columns.push_back({{figure.heading, "published, B200", true}, "", [key = figure.key](const R& row) {
                         return speedup_value(row.row[key].as<double>());
                       }});
  }
  if (publication.seconds) {
    columns.push_back({{"seconds", "published, B200", true}, "", [](const R& row) {
                         return plain(fmt::format("{:.0f}", row.row["seconds"].as<double>()));
                       }});
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    const auto of_type = [i, type = types[i]](const R& row) { return ProjectedRow{&row, type, row.measured[i]}; };
    columns.push_back({{"attention", "here, " + types[i], true}, "", [of_type](const R& row) {
                         return of_type(row).attention_value();
                       }});
    columns.push_back({{"end to end, projected", "here, " + types[i], true}, "", [of_type](const R& row) {
                         return of_type(row).projected_value();
                       }});
  }
  return columns;
}

/// A line for each published row and type.
std::vector<ColumnOf<ProjectedRow>> record_columns() {
  using R = ProjectedRow;
  std::vector<ColumnOf<R>> columns{
      {{}, "window", [](const R& row) { return plain(extents_text(row.shared->problem.window)); }},
      {{}, "stride", [](const R& row) { return plain(extents_text(row.shared->problem.stride)); }},
      {{}, "steps", [](const R& row) { return plain(exact(row.shared->application.steps)); }},
      {{}, "dense_steps", [](const R& row) { return plain(exact(row.shared->application.dense_steps)); }},
      {{}, "attention_share", [](const R& row) { return plain(exact(row.shared->application.attention_share)); }}};
  for (const PublishedFigure& figure : kPublished) {
    columns.push_back({{}, figure.field, [key = figure.key](const R& row) {
                         return plain(exact(row.shared->row[key].as<double>()));
                       }});
  }
  columns.push_back({{}, "type", [](const R& row) { return plain(row.type); }});
  columns.push_back({{}, "attention_speedup", &R::attention_value});
  columns.push_back({{}, "projected_speedup", &R::projected_value});
  columns.push_back(
      {{}, "samples", if_measured([](const R& row) { return plain(exact(std::ssize(row.ours.fused->samples))); })});
  columns.push_back({{}, "self_attention_samples", if_measured([](const R& row) {
                       return plain(exact(std::ssize(row.ours.dense->samples)));
                     })});
  return columns;
}

Table table_of(const Lookup& lookup, const Publication& publication) {
  const std::vector<std::string> types = lookup.types();
  Table table;
  table.name = publication.file_name(lookup);
  table.title = lookup.titled(publication.title());
  std::vector<EndToEndRow> rows;
  std::vector<const store::Row*> used;
  for (const YAML::Node& row : publication.rows) {
    rows.push_back({row, publication.problem(row), publication.application(row), {}});
    for (const std::string& type : types) {
      const Measured ours = lookup.find(rows.back().problem, type);
      if (ours) used.insert(used.end(), {ours.fused, ours.dense});
      rows.back().measured.push_back(ours);
    }
  }
  std::vector<ProjectedRow> lines;
  for (const EndToEndRow& row : rows) {
    for (std::size_t i = 0; i < types.size(); ++i) lines.push_back({&row, types[i], row.measured[i]});
  }
  fill(table, shown_columns(publication, types), rows);
  fill(table, record_columns(), lines);
  table.caption = caption_of(lookup.results(), used);
  table.caption.push_back(fmt::format(
      "End to end is a projection here: no model was run. The measured speedup of attention is put through "
      "Amdahl's law with the published share of attention, {:.1f} % of the run time on a B200, in all steps "
      "but those of self attention.",
      publication.use_case["attention_share_e2e"].as<double>() * 100));
  if (publication.seconds) {
    table.caption.push_back(fmt::format(
        "Published seconds are for the whole application, which takes {:.0f} s with self attention throughout.",
        *publication.seconds));
  }
  return table;
}

/// Actual against projected speedups of the rows without steps of self attention.
Plot plot_of(const Lookup& lookup, const Publication& publication, const std::string& type) {
  Plot plot;
  plot.name = publication.file_name(lookup) + "_" + type;
  plot.title = lookup.titled(publication.title());
  plot.x = {"window and stride", false};
  plot.y = {"end-to-end speedup, x", false};
  std::vector<Series> series{{"B200, published", Role::published, Mark::bars, {}},
                             {"here, projected", Role::ours, Mark::bars, {}},
                             {"FLOP-wise bound", Role::bound, Mark::points, {}}};
  std::vector<Measured> shown;
  for (const YAML::Node& row : publication.rows) {
    if (publication.application(row).dense_steps > 0) continue;
    const Case problem = publication.problem(row);
    const auto x = static_cast<double>(plot.categories.size());
    plot.categories.push_back(extents_text(problem.window) + " / " + extents_text(problem.stride));
    series[0].points.push_back({x, row["actual"].as<double>()});
    series[2].points.push_back({x, row["flops"].as<double>()});
    const Measured ours = lookup.find(problem, type);
    if (!ours) continue;
    shown.push_back(ours);
    series[1].points.push_back({x, publication.project(row, ours.speedup())});
  }
  plot.series = std::move(series);
  plot.caption = plot_caption_of(lookup.results(), shown);
  plot.caption.push_back(
      fmt::format("All steps sparse; ours is a projection from the speedup of attention in {}.", type));
  return plot;
}

/// The greatest speedup of table 4.
Claim claim(const Lookup& lookup, const Publication& publication, const std::string& type) {
  YAML::Node best;
  for (const YAML::Node& row : publication.rows) {
    if (!best.IsMap() || row["actual"].as<double>() > best["actual"].as<double>()) best.reset(row);
  }
  const Measured ours = lookup.find(publication.problem(best), type);
  Claim claim;
  const std::string stride = extents_text(publication.problem(best).stride);
  claim.statement = fmt::format("{}{} gets faster end to end with stride {}.", lookup.on_gpu() ? "On a GPU, " : "",
                                publication.model, stride);
  claim.source = "Generalized NA (arXiv:2504.16922), table 4";
  claim.published = best["actual"].as<double>() - 1;
  claim.published_text = fmt::format("{} (B200)", speedup_text(best["actual"].as<double>()));
  claim.table = publication.file_name(lookup);
  claim.why_not = ours ? ours.few_samples() : ours.why_not;
  if (ours) {
    const double projected = publication.project(best, ours.speedup());
    claim.ours = projected - 1;
    claim.ours_text = fmt::format("{}, projected from attention alone ({})", speedup_text(projected), type);
  }
  return claim;
}

Section section_of(const Lookup& lookup) {
  const std::string type = lookup.types().front();
  Section section;
  section.name = lookup.named("gna_end_to_end");
  section.title = lookup.titled("Generalized Neighborhood Attention: end to end, projected");
  section.about = {
      "Nothing was run end to end here: the speedups of attention above are put through the published shares of "
      "attention."};
  section.sources = {published("gna2025")["source"].as<std::string>() + ", tables 2 to 6; " +
                     published("gna2025")["device"].as<std::string>()};
  for (const Publication& publication : publications()) {
    section.tables.push_back(table_of(lookup, publication));
    if (publication.seconds) continue;  // tables 5 and 6 have rows of 2 and 4 again
    section.plots.push_back(plot_of(lookup, publication, type));
    if (publication.name == "table4_hunyuan") section.claims = {claim(lookup, publication, type)};
  }
  return section;
}

}  // namespace

std::vector<Section> end_to_end_sections(const store::Results& results, const Options&) {
  std::vector<Section> sections;
  for (const Lookup& lookup : lookups(results, kGnaOpLevel)) sections.push_back(section_of(lookup));
  return sections;
}

}  // namespace nalab::report
