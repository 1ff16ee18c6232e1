// The samples of NATTEN's profiler: milliseconds and speedup over self attention, next to H100 and B200.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "core/problem.h"
#include "report/format.h"
#include "report/modules.h"
#include "report/papers/lookup.h"
#include "report/papers/published.h"

namespace nalab::report {
namespace {

using Extents = std::vector<int64_t>;

constexpr const char* kProfiler = "natten_profiler";
constexpr std::pair<const char*, const char*> kMachines[] = {{"H100", "h100"}, {"B200", "b200"}};

bool is_self_attention(const YAML::Node& sample) { return sample["window"].IsNull(); }

/// Kernel and token permutation, milliseconds.
double milliseconds(const YAML::Node& sample, const std::string& machine) {
  return sample[machine]["kernel"].as<double>() + sample[machine]["permute"].as<double>();
}

/// The sample of self attention on the same layout.
YAML::Node self_attention_of(const YAML::Node& sample) {
  for (const YAML::Node& other : published("natten_docs")["profiler_samples"]) {
    if (is_self_attention(other) && other["case"].as<std::string>() == sample["case"].as<std::string>()) return other;
  }
  return YAML::Node();
}

/// A sample with a window, as a problem; for self attention, that of the first sample with a window on its layout.
Case problem_of(const YAML::Node& sample) {
  for (const YAML::Node& other : published("natten_docs")["profiler_samples"]) {
    const YAML::Node& windowed = is_self_attention(sample) ? other : sample;
    if (is_self_attention(windowed) || windowed["case"].as<std::string>() != sample["case"].as<std::string>()) continue;
    return {windowed["layout"].as<Extents>(),
            windowed["window"].as<Extents>(),
            windowed["stride"].as<Extents>(),
            {},
            windowed["head_dim"].as<int64_t>()};
  }
  return {};
}

/// A row of the table.
struct SampleRow {
  YAML::Node sample;
  std::string type;
  Case problem;
  Measured ours;

  bool whole() const { return is_self_attention(sample); }
  int64_t heads() const { return sample["heads"].as<int64_t>(); }
  double seconds() const { return whole() ? ours.dense_seconds() : ours.seconds(); }
  double speedup() const { return whole() ? 1.0 : ours.speedup(); }
};

/// Milliseconds of the published number of heads.
Value scaled_milliseconds(const SampleRow& row) {
  const int64_t measured = row.ours.fused->heads;
  const double scaled = row.seconds() * 1e3 * static_cast<double>(row.heads()) / static_cast<double>(measured);
  return {significant(scaled, 4), exact(scaled),
          measured == row.heads() ? "" : fmt::format("scaled: measured with {} of {} heads", measured, row.heads())};
}

std::vector<ColumnOf<SampleRow>> columns() {
  using R = SampleRow;
  std::vector<ColumnOf<R>> columns{
      {{"case"}, "case", [](const R& row) { return plain(row.sample["case"].as<std::string>()); }},
      {{"layout"}, "", [](const R& row) { return plain(extents_text(row.problem.layout)); }},
      {{"window"},
       "window",
       [](const R& row) { return plain(row.whole() ? "self attention" : extents_text(row.problem.window)); }},
      {{"stride"}, "stride", [](const R& row) { return plain(row.whole() ? "-" : extents_text(row.problem.stride)); }},
      {{"type"}, "type", [](const R& row) { return plain(row.type); }},
      {{"heads", "", true}, "heads", [](const R& row) { return plain(exact(row.heads())); }},
      {{"FLOP-wise bound", "", true},
       "",
       [](const R& row) {
         return plain(row.whole() ? "-" : fmt::format("{:.1f}x", row.sample["flop_wise"].as<double>()));
       }},
      {{}, "heads_measured", if_measured([](const R& row) { return plain(exact(row.ours.fused->heads)); })},
      {{}, "seconds_measured", if_measured([](const R& row) { return plain(exact(row.seconds())); })},
      {{"ms", "here", true}, "milliseconds", if_measured(scaled_milliseconds)},
      {{"speedup", "here", true}, "speedup", if_measured([](const R& row) {
         return speedup_value(row.speedup(), row.whole() ? "" : row.ours.few_samples());
       })},
      {{}, "samples", if_measured([](const R& row) { return plain(exact(std::ssize(row.ours.fused->samples))); })},
      {{}, "self_attention_samples", if_measured([](const R& row) {
         return plain(exact(std::ssize(row.ours.dense->samples)));
       })},

  };
  for (const auto& [machine, key] : kMachines) {
    const std::string field = key;
    columns.push_back({{"ms", machine, true}, field + "_milliseconds", [field](const R& row) {
                         const double theirs = milliseconds(row.sample, field);
                         return Value{significant(theirs, 4), exact(theirs)};
                       }});
    columns.push_back({{"speedup", machine, true}, field + "_speedup", [field](const R& row) {
                         return speedup_value(milliseconds(self_attention_of(row.sample), field) /
                                              milliseconds(row.sample, field));
                       }});
  }
  return columns;
}

Table table_of(const Lookup& lookup) {
  Table table;
  table.name = lookup.named(kProfiler);
  table.title = lookup.titled("Profiler samples: milliseconds and speedup over self attention");
  std::vector<SampleRow> rows;
  std::vector<const store::Row*> used;
  for (const std::string& type : lookup.types()) {
    for (const YAML::Node& sample : published("natten_docs")["profiler_samples"]) {
      const Case problem = problem_of(sample);
      rows.push_back({sample, type, problem, lookup.find(problem, type)});
      const Measured& ours = rows.back().ours;
      if (ours) used.insert(used.end(), {ours.fused, ours.dense});
    }
  }
  fill(table, columns(), rows);
  table.caption = caption_of(lookup.results(), used);
  table.caption.push_back(
      fmt::format("Speedups are over self attention: {} here, cuDNN in the samples. Published times are of fp16 and "
                  "include token permutation.",
                  lookup.dense()));
  return table;
}

Plot plot_of(const Lookup& lookup, const std::string& type) {
  Plot plot;
  plot.name = lookup.named("natten_profiler_speedup_" + type);
  plot.title = lookup.titled("Profiler samples: speedup over self attention");
  plot.x = {"case and stride", false};
  plot.y = {"speedup over self attention, x", false};
  std::vector<Series> series{{"H100, published", Role::published, Mark::bars, {}},
                             {"B200, published", Role::published, Mark::bars, {}},
                             {"here", Role::ours, Mark::bars, {}},
                             {"FLOP-wise bound", Role::bound, Mark::points, {}}};
  std::vector<Measured> shown;
  for (const YAML::Node& sample : published("natten_docs")["profiler_samples"]) {
    if (is_self_attention(sample)) continue;
    const Case problem = problem_of(sample);
    const auto x = static_cast<double>(plot.categories.size());
    plot.categories.push_back(sample["case"].as<std::string>() + " " + extents_text(problem.stride));
    for (const std::size_t i : {0, 1}) {
      const char* key = kMachines[i].second;
      series[i].points.push_back({x, milliseconds(self_attention_of(sample), key) / milliseconds(sample, key)});
    }
    series[3].points.push_back({x, sample["flop_wise"].as<double>()});
    const Measured ours = lookup.find(problem, type);
    if (!ours) continue;
    shown.push_back(ours);
    series[2].points.push_back({x, ours.speedup()});
  }
  plot.series = std::move(series);
  plot.caption = plot_caption_of(lookup.results(), shown);
  return plot;
}

Section section_of(const Lookup& lookup) {
  Section section;
  section.name = lookup.named(kProfiler);
  section.title = lookup.titled("Samples of NATTEN's profiler");
  section.about = {"The cases that NATTEN's documentation profiles, one forward pass each."};
  section.sources = {published("natten_docs")["source"].as<std::string>() + "; H100 and B200, fp16 forward"};
  // The samples are of f16.
  const std::vector<std::string> types = lookup.types();
  section.plots = {plot_of(lookup, lookup.on_gpu() ? types.back() : types.front())};
  section.tables = {table_of(lookup)};
  return section;
}

}  // namespace

std::vector<Section> profiler_sections(const store::Results& results, const Options&) {
  std::vector<Section> sections;
  for (const Lookup& lookup : lookups(results, kProfiler)) sections.push_back(section_of(lookup));
  return sections;
}

}  // namespace nalab::report
