// The samples of NATTEN's profiler: milliseconds and speedup over self attention, beside H100 and B200.
#include <fmt/format.h>

#include <string>
#include <vector>

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
double milliseconds(const YAML::Node& sample, const char* machine) {
  return sample[machine]["kernel"].as<double>() + sample[machine]["permute"].as<double>();
}

/// The sample of self attention on the same layout.
YAML::Node self_attention_of(const YAML::Node& sample) {
  for (const YAML::Node& other : published("natten_docs")["profiler_samples"]) {
    if (is_self_attention(other) && other["case"].as<std::string>() == sample["case"].as<std::string>()) return other;
  }
  return YAML::Node();
}

/// A sample with a window, as a problem; self attention stands for that of the first such sample on its layout.
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

Table table_of(const store::Results& results, const std::vector<std::string>& types) {
  const std::set<std::string> configs = configs_of(results, kProfiler);
  Table table;
  table.name = kProfiler;
  table.title = "Profiler samples: milliseconds and speedup over self attention";
  for (const char* heading : {"case", "layout", "window", "stride", "type"})
    table.columns.push_back({heading, "", false});
  table.columns.push_back({"heads", "", true});
  table.columns.push_back({"FLOP-wise bound", "", true});
  for (const char* heading : {"ms", "speedup"}) table.columns.push_back({heading, "here", true});
  for (const auto& [machine, key] : kMachines) {
    for (const char* heading : {"ms", "speedup"}) table.columns.push_back({heading, machine, true});
  }
  table.records.fields = {"case",
                          "window",
                          "stride",
                          "type",
                          "heads",
                          "heads_measured",
                          "seconds_measured",
                          "milliseconds",
                          "speedup",
                          "h100_milliseconds",
                          "h100_speedup",
                          "b200_milliseconds",
                          "b200_speedup"};
  std::vector<const store::Row*> rows;
  for (const std::string& type : types) {
    for (const YAML::Node& sample : published("natten_docs")["profiler_samples"]) {
      const bool whole = is_self_attention(sample);
      const Case problem = problem_of(sample);
      const Measured ours = find_measured(results, configs, problem, type);
      const auto heads = sample["heads"].as<int64_t>();
      const std::string window = whole ? "self attention" : extents_text(problem.window);
      const std::string stride = whole ? "-" : extents_text(problem.stride);
      std::vector<Cell> cells{{sample["case"].as<std::string>()},
                              {extents_text(problem.layout)},
                              {window},
                              {stride},
                              {type},
                              {exact(heads)},
                              {whole ? "-" : fmt::format("{:.1f}x", sample["flop_wise"].as<double>())}};
      std::vector<std::string> line{sample["case"].as<std::string>(), window, stride, type, exact(heads)};
      if (ours) {
        rows.insert(rows.end(), {ours.fused, ours.dense});
        const double seconds = whole ? ours.dense_seconds() : ours.seconds();
        const double speedup = whole ? 1.0 : ours.speedup();
        const double scaled = seconds * 1e3 * static_cast<double>(heads) / static_cast<double>(ours.fused->heads);
        const int note =
            ours.fused->heads == heads
                ? 0
                : table.footnote(fmt::format("scaled: measured with {} of {} heads", ours.fused->heads, heads));
        cells.push_back({significant(scaled, 4), note});
        cells.push_back({speedup_text(speedup)});
        line.insert(line.end(), {exact(ours.fused->heads), exact(seconds), exact(scaled), exact(speedup)});
      } else {
        cells.resize(cells.size() + 2, missing(table, ours.why_not));
        line.resize(line.size() + 4);
      }
      for (const auto& [machine, key] : kMachines) {
        const double theirs = milliseconds(sample, key);
        const double speedup = milliseconds(self_attention_of(sample), key) / theirs;
        cells.push_back({significant(theirs, 4)});
        cells.push_back({speedup_text(speedup)});
        line.insert(line.end(), {exact(theirs), exact(speedup)});
      }
      table.rows.push_back(std::move(cells));
      table.records.lines.push_back(std::move(line));
    }
  }
  table.caption = caption_of(results, rows);
  table.caption.emplace_back(
      "Speedups are over self attention: dense here, cuDNN on the GPUs. Published times are of fp16 and include token "
      "permutation.");
  return table;
}

Plot plot_of(const store::Results& results, const std::string& type) {
  const std::set<std::string> configs = configs_of(results, kProfiler);
  Plot plot;
  plot.name = "natten_profiler_speedup_" + type;
  plot.title = "Profiler samples: speedup over self attention";
  plot.x = {"case and stride", false};
  plot.y = {"speedup over self attention, x", false};
  std::vector<Series> series{{"H100, published", Role::kPublished, Mark::kBars, {}},
                             {"B200, published", Role::kPublished, Mark::kBars, {}},
                             {"here", Role::kOurs, Mark::kBars, {}},
                             {"FLOP-wise bound", Role::kBound, Mark::kPoints, {}}};
  std::vector<const store::Row*> rows;
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
    const Measured ours = find_measured(results, configs, problem, type);
    if (!ours) continue;
    rows.insert(rows.end(), {ours.fused, ours.dense});
    series[2].points.push_back({x, ours.speedup()});
  }
  plot.series = std::move(series);
  plot.caption = caption_of(results, rows);
  return plot;
}

}  // namespace

std::vector<Section> profiler_sections(const store::Results& results, const Options&) {
  const std::vector<std::string> types = types_of(results, configs_of(results, kProfiler));
  if (types.empty()) return {};
  Section section;
  section.name = kProfiler;
  section.title = "Samples of NATTEN's profiler";
  section.about = {"The cases that NATTEN's documentation profiles, one forward pass each."};
  section.sources = {published("natten_docs")["source"].as<std::string>() + "; H100 and B200, fp16 forward"};
  section.plots = {plot_of(results, types.front())};
  section.tables = {table_of(results, types)};
  return {section};
}

}  // namespace nalab::report
