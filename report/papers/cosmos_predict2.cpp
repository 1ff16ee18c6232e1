// NVIDIA cosmos-predict2: the neighborhood attention of each layer, and what that gains for the stack of layers.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
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

constexpr const char* kCosmos = "cosmos_predict2";
struct Model {
  const char* name;
  const char* key;

  /// The published range, from and to.
  std::vector<double> end_to_end() const {
    return published(kCosmos)["speedup_end_to_end"][name].as<std::vector<double>>();
  }
};
constexpr Model kModels[] = {{"2B", "video2world_2b"}, {"14B", "video2world_14b"}};

/// One number of frames and one type.
struct Setting {
  int64_t frames = 0;
  std::string type;

  std::string name() const { return fmt::format("{}_frames_{}", frames, type); }
  std::string text() const { return fmt::format("{} frames, {}", frames, type); }
};

Case problem_of(const YAML::Node& pattern, int64_t frames) {
  Extents layout = published(kCosmos)["layout_hw"].as<Extents>();
  layout.insert(layout.begin(), frames);
  Extents window = pattern["window"].as<Extents>();
  for (std::size_t i = 0; i < window.size(); ++i) {
    if (window[i] == -1) window[i] = layout[i];
  }
  return {layout, window, pattern["stride"].as<Extents>(), pattern["dilation"].as<Extents>()};
}

/// The number of frames of a row with frames of 44 x 80 tokens; none if its layout is another one.
std::optional<int64_t> frames_of(const store::Row& row) {
  const Extents layout = parse_extents("layout", row.layout);
  const Extents frame(layout.begin() + 1, layout.end());
  return frame == published(kCosmos)["layout_hw"].as<Extents>() ? std::optional(layout.front()) : std::nullopt;
}

/// All frames and types of the configurations' rows.
std::vector<Setting> settings_of(const Lookup& lookup) {
  std::vector<Setting> settings;
  for (const std::string& type : lookup.types()) {
    std::set<int64_t> frames;
    for (const store::Row& row : lookup.results().rows) {
      if (!lookup.is_preferred(row) || row.on_gpu() != lookup.on_gpu() || row.type != type) continue;
      if (const std::optional<int64_t> count = frames_of(row)) frames.insert(*count);
    }
    for (const int64_t count : frames) settings.push_back({count, type});
  }
  return settings;
}

/// The patterns at one setting by name, in the order of the publication.
struct Patterns {
  std::vector<std::string> names;
  std::map<std::string, Case> problems;
  std::map<std::string, Measured> measured;
  std::vector<const store::Row*> rows;

  Patterns(const Lookup& lookup, const Setting& setting) {
    for (const auto& entry : published(kCosmos)["patterns"]) {
      names.push_back(entry.first.as<std::string>());
      const Case problem = problem_of(entry.second, setting.frames);
      const Measured found = lookup.find(problem, setting.type);
      if (found) rows.insert(rows.end(), {found.fused, found.dense});
      problems.emplace(names.back(), problem);
      measured.emplace(names.back(), found);
    }
  }
};

/// A stretch of layers with the same pattern; none if it keeps self attention.
struct Layers {
  int64_t first = 0, last = 0;
  std::optional<std::string> pattern;
  int64_t count() const { return last - first + 1; }
};

std::vector<Layers> layers_of(const Model& model) {
  std::vector<Layers> list;
  for (const YAML::Node& entry : published(kCosmos)[model.key]) {
    Layers layers{entry[0].as<int64_t>(), entry[1].as<int64_t>(), {}};
    if (!entry[2].IsNull()) layers.pattern = entry[2].as<std::string>();
    list.push_back(std::move(layers));
  }
  return list;
}

/// Speedups of the attention of some layers over self attention in all of them.
struct Stack {
  double speedup = 1, simulated = 1, flop_wise = 1;
  std::string why_not = {};      ///< empty if all patterns were measured
  std::string few_samples = {};  ///< why the speedup is not reliable; empty if it is
};

Stack attention_of(const Layers& stretch, const Patterns& patterns) {
  if (!stretch.pattern) return {};
  const Measured& measured = patterns.measured.at(*stretch.pattern);
  if (!measured) return {0, 0, 0, measured.why_not};
  return {measured.speedup(), measured.simulated(), measured.flop_wise(), {}, measured.few_samples()};
}

/// All layers of a model.
Stack stack_of(const Model& model, const Patterns& patterns) {
  double layers = 0, time = 0, simulated = 0, flop_wise = 0;
  std::string few_samples;
  for (const Layers& stretch : layers_of(model)) {
    const Stack attention = attention_of(stretch, patterns);
    if (!attention.why_not.empty()) return {0, 0, 0, *stretch.pattern + ": " + attention.why_not};
    if (few_samples.empty() && !attention.few_samples.empty()) {
      few_samples = *stretch.pattern + ": " + attention.few_samples;
    }
    const auto count = static_cast<double>(stretch.count());
    layers += count;
    time += count / attention.speedup;
    simulated += count / attention.simulated;
    flop_wise += count / attention.flop_wise;
  }
  return {layers / time, layers / simulated, layers / flop_wise, {}, few_samples};
}

std::string heads_sentence(const Patterns& patterns) {
  std::set<std::string> heads;
  for (const store::Row* row : patterns.rows) heads.insert(exact(row->heads));
  return heads.empty() ? "Nothing was measured."
                       : fmt::format("Times are for {} head{} of 128 channels in one layer.", enumerate(heads),
                                     heads == std::set<std::string>{"1"} ? "" : "s");
}

/// A row of the table of patterns.
struct PatternRow {
  const Setting* setting;
  std::string name;
  Case problem;
  Measured ours;

  double published_sparsity() const {
    return published(kCosmos)["patterns"][name]["sparsity_percent"].as<double>() / 100;
  }
  double sparsity() const { return 1 - 1 / ours.flop_wise(); }
  int64_t layers_of(const Model& model) const {
    int64_t count = 0;
    for (const Layers& stretch : nalab::report::layers_of(model))
      count += stretch.pattern == name ? stretch.count() : 0;
    return count;
  }
};

std::vector<ColumnOf<PatternRow>> pattern_columns() {
  using R = PatternRow;
  std::vector<ColumnOf<R>> columns{
      {{}, "frames", [](const R& row) { return plain(exact(row.setting->frames)); }},
      {{}, "type", [](const R& row) { return plain(row.setting->type); }},
      {{"pattern"}, "pattern", [](const R& row) { return plain(row.name); }},
      {{"window"}, "window", [](const R& row) { return plain(extents_text(row.problem.window)); }},
      {{"stride"}, "stride", [](const R& row) { return plain(extents_text(row.problem.stride)); }},
      {{"dilation"}, "dilation", [](const R& row) { return plain(extents_text(row.problem.dilation)); }},
  };
  for (const Model& model : kModels) {
    columns.push_back(
        {{model.name, "layers", true}, "", [&model](const R& row) { return plain(exact(row.layers_of(model))); }});
  }
  const std::vector<ColumnOf<R>> figures{
      {{"sparsity", "published", true},
       "published_sparsity",
       [](const R& row) {
         return Value{fmt::format("{:.0f} %", row.published_sparsity() * 100), exact(row.published_sparsity())};
       }},
      {{"sparsity", "here", true}, "sparsity", if_measured([](const R& row) {
         return Value{fmt::format("{:.1f} %", row.sparsity() * 100), exact(row.sparsity())};
       })},
      {{"FLOP-wise", "bound", true}, "flop_wise", if_measured([](const R& row) {
         return speedup_value(row.ours.flop_wise());
       })},
      {{"simulated, our tiles", "bound", true}, "simulated", if_measured([](const R& row) {
         return speedup_value(row.ours.simulated());
       })},
      {{"ms", "here", true}, "seconds", if_measured([](const R& row) {
         return milliseconds_value(row.ours.seconds());
       })},
      {{}, "self_attention_seconds", if_measured([](const R& row) { return plain(exact(row.ours.dense_seconds())); })},
      {{"speedup", "here", true}, "speedup", if_measured([](const R& row) {
         return speedup_value(row.ours.speedup(), row.ours.few_samples());
       })},
      {{"efficiency %", "here", true}, "", if_measured([](const R& row) {
         return plain(fmt::format("{:.1f}", row.ours.speedup() / row.ours.simulated() * 100));
       })},
      {{}, "samples", if_measured([](const R& row) { return plain(exact(std::ssize(row.ours.fused->samples))); })},
      {{}, "self_attention_samples", if_measured([](const R& row) {
         return plain(exact(std::ssize(row.ours.dense->samples)));
       })},
  };
  columns.insert(columns.end(), figures.begin(), figures.end());
  return columns;
}

Table patterns_table(const Lookup& lookup, const Setting& setting, const Patterns& patterns) {
  Table table;
  table.name = lookup.named("cosmos_predict2_patterns_" + setting.name());
  table.title = lookup.titled(fmt::format("Patterns of the layers, {}", setting.text()));
  table.caption = caption_of(lookup.results(), patterns.rows);
  table.caption.push_back(heads_sentence(patterns) +
                          " Speedups are over self attention; the simulated bound counts the FLOPs that the kernels "
                          "execute, and efficiency is the speedup in % of it.");
  std::vector<PatternRow> rows;
  for (const std::string& name : patterns.names) {
    rows.push_back({&setting, name, patterns.problems.at(name), patterns.measured.at(name)});
  }
  fill(table, pattern_columns(), rows);
  return table;
}

/// A row of the table of layers: a stretch of them, or the stack.
struct LayerRow {
  std::string layers, pattern;
  Stack attention;
};

std::vector<LayerRow> layer_rows(const Patterns& patterns, const Model& model) {
  std::vector<LayerRow> rows;
  for (const Layers& stretch : layers_of(model)) {
    const std::string layers =
        stretch.first == stretch.last ? exact(stretch.first) : fmt::format("{} to {}", stretch.first, stretch.last);
    rows.push_back({layers, stretch.pattern.value_or("self attention"), attention_of(stretch, patterns)});
  }
  rows.push_back({"stack", "all", stack_of(model, patterns)});
  return rows;
}

std::vector<ColumnOf<LayerRow>> layer_columns() {
  using R = LayerRow;
  const auto speedup = [](double Stack::*which) {
    return [which](const R& row) {
      const std::string& why_not = row.attention.why_not;
      const std::string note = which == &Stack::speedup ? row.attention.few_samples : "";
      return why_not.empty() ? speedup_value(row.attention.*which, note) : absent(why_not);
    };
  };
  return {{{"layers"}, "", [](const R& row) { return plain(row.layers); }},
          {{"pattern"}, "", [](const R& row) { return plain(row.pattern); }},
          {{"FLOP-wise bound", "", true}, "", speedup(&Stack::flop_wise)},
          {{"simulated bound", "", true}, "", speedup(&Stack::simulated)},
          {{"speedup here", "", true}, "", speedup(&Stack::speedup)}};
}

std::string layers_table_name(const Lookup& lookup, const Model& model, const Setting& setting) {
  return lookup.named(fmt::format("cosmos_predict2_{}_{}", model.name, setting.name()));
}

Table layers_table(const Lookup& lookup, const Setting& setting, const Patterns& patterns, const Model& model) {
  Table table;
  table.name = layers_table_name(lookup, model, setting);
  table.title = lookup.titled(fmt::format("{}: layers and stack, {}", model.name, setting.text()));
  table.caption = caption_of(lookup.results(), patterns.rows);
  table.caption.push_back(
      fmt::format("Speedup of attention over self attention, layer by layer; the stack is all layers together. "
                  "Published: {:.1f}x to {:.1f}x end to end, which includes everything that is not attention.",
                  model.end_to_end()[0], model.end_to_end()[1]));
  fill(table, layer_columns(), layer_rows(patterns, model));
  return table;
}

Plot plot_of(const Lookup& lookup, const Setting& setting, const Patterns& patterns) {
  Plot plot;
  plot.name = lookup.named("cosmos_predict2_speedup_" + setting.name());
  plot.title = lookup.titled(fmt::format("Speedup of attention, {}", setting.text()));
  plot.x = {"pattern of the layer, stack of the model", false};
  plot.y = {"speedup over self attention, x", false};
  Series ours{"here", Role::ours, Mark::bars, {}};
  Series simulated{"simulated, our tiles", Role::bound, Mark::points, {}};
  Series flop_wise{"FLOP-wise bound", Role::bound, Mark::points, {}};
  const auto add = [&](const std::string& name, double speedup, double bound, double flops) {
    const auto x = static_cast<double>(plot.categories.size());
    plot.categories.push_back(name);
    ours.points.push_back({x, speedup});
    simulated.points.push_back({x, bound});
    flop_wise.points.push_back({x, flops});
  };
  std::vector<Measured> shown;
  for (const std::string& name : patterns.names) {
    const Measured& measured = patterns.measured.at(name);
    if (!measured) continue;
    shown.push_back(measured);
    add(name, measured.speedup(), measured.simulated(), measured.flop_wise());
  }
  for (const Model& model : kModels) {
    const Stack stack = stack_of(model, patterns);
    if (stack.why_not.empty())
      add(fmt::format("{} stack", model.name), stack.speedup, stack.simulated, stack.flop_wise);
  }
  plot.caption = plot_caption_of(lookup.results(), shown);
  plot.series = {ours, simulated, flop_wise};
  return plot;
}

/// Of the setting with the greatest speedup, among the reliable ones if there are any: "up to" is a claim about the
/// best one.
Claim claim(const Lookup& lookup, const std::vector<Setting>& settings) {
  const Model& model = kModels[0];
  const Setting* best = nullptr;
  Stack stack;
  const auto rank = [](const Stack& s) { return std::pair(s.why_not.empty() && s.few_samples.empty(), s.speedup); };
  for (const Setting& setting : settings) {
    const Stack found = stack_of(model, Patterns(lookup, setting));
    if (best != nullptr && rank(found) <= rank(stack)) continue;
    best = &setting;
    stack = found;
  }
  Claim claim;
  claim.statement = fmt::format(
      "{}cosmos-predict2 2B gets up to 2.6x faster end to end; here attention alone, which must gain at least as much.",
      lookup.on_gpu() ? "On a GPU, " : "");
  claim.share_needed = 1;
  claim.source = "cosmos-predict2, 720p Video2World";
  claim.published = model.end_to_end()[1] - 1;
  claim.published_text = fmt::format("up to {:.1f}x end to end (H100, B200)", model.end_to_end()[1]);
  claim.table = layers_table_name(lookup, model, *best);
  claim.why_not = stack.why_not.empty() ? stack.few_samples : stack.why_not;
  if (stack.why_not.empty()) {
    claim.ours = stack.speedup - 1;
    claim.ours_text = fmt::format("{} for the attention of all layers, {}", speedup_text(stack.speedup), best->text());
  }
  return claim;
}

Section section_of(const Lookup& lookup, const std::vector<Setting>& settings) {
  Section section;
  section.name = lookup.named(kCosmos);
  section.title = lookup.titled("cosmos-predict2: up to 2.6x");
  section.about = {"Each layer of the video models has a window, stride and dilation of its own, over all frames."};
  section.sources = {published(kCosmos)["source"].as<std::string>() + "; " +
                     published(kCosmos)["notes"][1].as<std::string>()};
  for (const Setting& setting : settings) {
    const Patterns patterns(lookup, setting);
    section.plots.push_back(plot_of(lookup, setting, patterns));
    section.tables.push_back(patterns_table(lookup, setting, patterns));
    for (const Model& model : kModels) section.tables.push_back(layers_table(lookup, setting, patterns, model));
  }
  section.claims = {claim(lookup, settings)};
  return section;
}

}  // namespace

std::vector<Section> cosmos_predict2_sections(const store::Results& results, const Options&) {
  std::vector<Section> sections;
  for (const Lookup& lookup : lookups(results, kCosmos)) {
    const std::vector<Setting> settings = settings_of(lookup);
    if (!settings.empty()) sections.push_back(section_of(lookup, settings));
  }
  return sections;
}

}  // namespace nalab::report
