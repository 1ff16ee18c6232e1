// The windows and strides of Generalized Neighborhood Attention (2504.16922), tables 2 to 6: the speedup of each over
// self attention, next to its bounds and the charts of NATTEN's documentation.
#include "report/papers/generalized_na.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/problem.h"
#include "core/simulator/simulator.h"
#include "report/figures.h"
#include "report/format.h"
#include "report/modules.h"
#include "report/papers/published.h"

namespace nalab::report {
namespace {

using Extents = std::vector<int64_t>;

constexpr const char* kSpeedups = "gna_op_level_speedup";
/// A chart of NATTEN's documentation.
struct Chart {
  const char* machine;
  const char* field;  ///< of the records
  const char* key;    ///< in data/published/natten_docs.yaml
};
constexpr Chart kCharts[] = {{"H100", "published_h100", "chart_hopper_h100"},
                             {"B200", "published_b200", "chart_blackwell_b200"}};
constexpr const char* kNotInCharts =
    "NATTEN's charts show only stride 1 and the block-sparse stride, and only for three of the windows";

bool is_ones(const Extents& extents) { return std::count(extents.begin(), extents.end(), 1) == std::ssize(extents); }

/// Speedups of a chart: actual, without token permutation, simulated.
std::optional<std::vector<double>> charted(const Chart& chart, const Case& wanted) {
  const YAML::Node& docs = published("natten_docs");
  for (const auto& entry : docs["chart_cases"]) {
    const YAML::Node& parameters = entry.second;
    if (parameters["layout"].as<Extents>() != wanted.layout || parameters["window"].as<Extents>() != wanted.window)
      continue;
    const YAML::Node& speedups = docs[chart.key][entry.first.as<std::string>()];
    if (is_ones(wanted.stride)) return speedups["na"].as<std::vector<double>>();
    if (parameters["gna_stride"].as<Extents>() == wanted.stride) return speedups["gna"].as<std::vector<double>>();
  }
  return std::nullopt;
}

/// With the tiles that the paper used, or that reproduce its figures.
double simulated_with_published_tiles(const GnaCase& c) {
  const YAML::Node& tiles = published("gna2025")["tiles_blackwell"][c.model + " " + extents_text(c.problem.window)];
  Problem problem;
  for (std::size_t i = 0; i < c.problem.layout.size(); ++i) {
    problem.axes.push_back(
        {.extent = c.problem.layout[i], .window = c.problem.window[i], .stride = c.problem.stride[i]});
  }
  return simulator::simulate(problem, {tiles["q"].as<Extents>(), tiles["kv"].as<Extents>()}).speedup_worst();
}

/// A row of the table of speedups.
struct SpeedupRow {
  GnaCase asked;
  std::string type;
  Measured ours;
  double theirs;  ///< simulated with the paper's tiles

  double efficiency() const { return ours.speedup() / ours.simulated(); }
};

Value packing_free(const SpeedupRow& row) {
  const std::optional<double> speedup = row.ours.speedup_without_packing();
  return speedup ? speedup_value(*speedup, row.ours.few_samples())
                 : absent("the packing of this row or of its self attention was not timed");
}

Value peak_share(const SpeedupRow& row, const store::Environment& environment) {
  const std::optional<double> share = figures_of(environment, *row.ours.fused).peak_share;
  return share ? Value{fmt::format("{:.1f}", *share * 100), exact(*share)} : absent(why_no_peak(*row.ours.fused));
}

std::vector<ColumnOf<SpeedupRow>> speedup_columns(const Lookup& lookup) {
  using R = SpeedupRow;
  const auto ours = [](auto value) { return if_measured(value); };
  std::vector<ColumnOf<R>> columns{
      {{"use case"}, "use_case", [](const R& row) { return plain(row.asked.model); }},
      {{"window"}, "window", [](const R& row) { return plain(extents_text(row.asked.problem.window)); }},
      {{"stride"}, "stride", [](const R& row) { return plain(extents_text(row.asked.problem.stride)); }},
      {{"type"}, "type", [](const R& row) { return plain(row.type); }},
      {{"heads", "", true}, "heads", ours([](const R& row) { return plain(exact(row.ours.fused->heads)); })},
      {{"FLOP-wise", "bound", true}, "flop_wise", ours([](const R& row) {
         return speedup_value(row.ours.flop_wise());
       })},
      {{"simulated, the paper's tiles", "bound", true},
       "simulated_published_tiles",
       [](const R& row) { return speedup_value(row.theirs); }},
      {{"simulated, our tiles", "bound", true}, "simulated_own_tiles", ours([](const R& row) {
         return speedup_value(row.ours.simulated());
       })},
      {{"ms", "here", true}, "seconds", ours([](const R& row) { return milliseconds_value(row.ours.seconds()); })},
      {{}, "self_attention_seconds", ours([](const R& row) { return plain(exact(row.ours.dense_seconds())); })},
      {{}, "packing_seconds", ours([](const R& row) { return plain(exact(row.ours.fused->packing_seconds)); })},
      {{"actual", "here", true}, "speedup", ours([](const R& row) {
         return speedup_value(row.ours.speedup(), row.ours.few_samples());
       })},
  };
  // On a GPU nothing is packed.
  if (!lookup.on_gpu()) {
    columns.push_back({{"without packing", "here", true}, "speedup_without_packing", ours(packing_free)});
  }
  const store::Environment& environment = lookup.results().environment;
  const std::vector<ColumnOf<R>> further{
      {{"efficiency %", "here", true}, "efficiency", ours([](const R& row) {
         return Value{fmt::format("{:.1f}", row.efficiency() * 100), exact(row.efficiency())};
       })},
      {{"peak %", "here", true}, "peak_share", ours([&](const R& row) { return peak_share(row, environment); })},
      {{}, "samples", ours([](const R& row) { return plain(exact(std::ssize(row.ours.fused->samples))); })},
      {{}, "self_attention_samples", ours([](const R& row) {
         return plain(exact(std::ssize(row.ours.dense->samples)));
       })},
  };
  columns.insert(columns.end(), further.begin(), further.end());
  const std::pair<const char*, const char*> charts[] = {
      {"actual", ""}, {"without permutation", "_without_permutation"}, {"simulated", "_simulated"}};
  for (const Chart& chart : kCharts) {
    for (std::size_t i = 0; i < std::size(charts); ++i) {
      columns.push_back({{charts[i].first, chart.machine, true},
                         std::string(chart.field) + charts[i].second,
                         [&chart, i](const R& row) {
                           const auto speedups = charted(chart, row.asked.problem);
                           return speedups ? Value{fmt::format("{:.1f}x", speedups->at(i)), exact(speedups->at(i))}
                                           : absent(kNotInCharts);
                         }});
    }
  }
  return columns;
}

Table speedup_table(const Lookup& lookup, const std::vector<GnaCase>& cases) {
  Table table;
  table.name = lookup.named(kSpeedups);
  table.title = lookup.titled("Speedup over self attention (windows and strides of tables 2 to 6; NATTEN's charts)");
  std::vector<SpeedupRow> rows;
  std::vector<const store::Row*> used;
  for (const std::string& type : lookup.types()) {
    for (const GnaCase& asked : cases) {
      const Measured ours = lookup.find(asked.problem, type);
      if (ours) used.insert(used.end(), {ours.fused, ours.dense});
      rows.push_back({asked, type, ours, simulated_with_published_tiles(asked)});
    }
  }
  fill(table, speedup_columns(lookup), rows);
  table.caption = caption_of(lookup.results(), used);
  table.caption.push_back(fmt::format(
      "Speedups are over self attention of the same tensors. Bounds: FLOP-wise counts attended pairs; simulated with "
      "the paper's tiles counts the KV tiles that the worst query tile visits; with our tiles, the FLOPs that the "
      "kernels execute. Efficiency: actual speedup in % of the one simulated with our tiles. {} H100 and B200: from "
      "the charts of NATTEN's documentation.",
      lookup.on_gpu() ? "No tensor is permuted or packed: the times are those of whole calls."
                      : "Without packing: the time spent copying keys and values into panels, timed separately, is "
                        "subtracted from both times; token permutation is its counterpart on GPUs."));
  return table;
}

/// The bars of the charts: stride 1 and the block-sparse stride of each use case.
Plot chart(const Lookup& lookup, const std::vector<GnaCase>& cases, const std::string& type) {
  Plot plot;
  plot.name = lookup.named("gna_op_level_chart_" + type);
  plot.title = lookup.titled(fmt::format("Speedup over self attention, {}", type));
  plot.x = {"use case and stride", false};
  plot.y = {"speedup over self attention, x", false};
  std::vector<Series> series{{"H100, published", Role::published, Mark::bars, {}},
                             {"B200, published", Role::published, Mark::bars, {}},
                             {"here", Role::ours, Mark::bars, {}},
                             {"simulated, our tiles", Role::bound, Mark::points, {}},
                             {"FLOP-wise bound", Role::bound, Mark::points, {}}};
  std::vector<Measured> shown;
  for (const GnaCase& c : cases) {
    if (!charted(kCharts[0], c.problem)) continue;
    const auto x = static_cast<double>(plot.categories.size());
    plot.categories.push_back(fmt::format("{} {}", c.model, extents_text(c.problem.stride)));
    for (const std::size_t i : {0, 1}) series[i].points.push_back({x, charted(kCharts[i], c.problem)->at(0)});
    const Measured ours = lookup.find(c.problem, type);
    if (!ours) continue;
    shown.push_back(ours);
    series[2].points.push_back({x, ours.speedup()});
    series[3].points.push_back({x, ours.simulated()});
    series[4].points.push_back({x, ours.flop_wise()});
  }
  plot.series = std::move(series);
  plot.caption = plot_caption_of(lookup.results(), shown);
  plot.caption.emplace_back(
      "After the charts of NATTEN's documentation, which are in fp16 or bf16, and figure 4 of the paper.");
  return plot;
}

/// Speedup against stride of one window, with its bounds as lines.
Plot against_stride(const Lookup& lookup, const std::vector<GnaCase>& cases, const GnaCase& like,
                    const std::string& type) {
  Plot plot;
  plot.name = lookup.named(fmt::format("gna_op_level_strides_{}_{}", extents_text(like.problem.window), type));
  plot.title = lookup.titled(
      fmt::format("{}, window {}: speedup against stride, {}", like.model, extents_text(like.problem.window), type));
  plot.x = {"stride", false};
  plot.y = {"speedup over self attention, x", false};
  std::vector<Series> series{{"here", Role::ours, Mark::bars, {}},
                             {"simulated, our tiles", Role::bound, Mark::line_and_points, {}},
                             {"simulated, the paper's tiles", Role::published, Mark::line_and_points, {}}};
  std::vector<Measured> shown;
  for (const GnaCase& c : cases) {
    if (c.model != like.model || c.problem.window != like.problem.window) continue;
    const auto x = static_cast<double>(plot.categories.size());
    plot.categories.push_back(extents_text(c.problem.stride));
    series[2].points.push_back({x, simulated_with_published_tiles(c)});
    const Measured ours = lookup.find(c.problem, type);
    if (!ours) continue;
    shown.push_back(ours);
    series[0].points.push_back({x, ours.speedup()});
    series[1].points.push_back({x, ours.simulated()});
  }
  plot.series = std::move(series);
  plot.caption = plot_caption_of(lookup.results(), shown);
  return plot;
}

/// What is claimed of cases that are in the charts, measured on one device in one type.
class Claims {
 public:
  Claims(const Lookup& lookup, const std::string& type)
      : lookup_(lookup), type_(type), chart_(kCharts[lookup.on_gpu() ? 0 : 1]) {}

  /// Neighborhood attention against self attention.
  Claim over_dense(const GnaCase& c, const std::string& statement) const {
    Claim claim = charted_claim(statement, published(c), fmt::format("{:.1f}x ({})", published(c), chart_.machine));
    const Measured ours = lookup_.find(c.problem, type_);
    claim.why_not = ours ? ours.few_samples() : ours.why_not;
    if (ours) {
      claim.ours = ours.speedup() - 1;
      claim.ours_text = fmt::format("{} ({}), {:.0f} % of the bound with our tiles", speedup_text(ours.speedup()),
                                    type_, ours.speedup() / ours.simulated() * 100);
    }
    return claim;
  }

  /// A stride against stride 1.
  Claim over_stride_1(const GnaCase& strided, const GnaCase& stride_1, const std::string& statement) const {
    const double ratio_there = published(strided) / published(stride_1);
    Claim claim = charted_claim(statement, ratio_there,
                                fmt::format("{:.1f}x: {:.1f}x over {:.1f}x ({})", ratio_there, published(strided),
                                            published(stride_1), chart_.machine));
    const Measured ours = lookup_.find(strided.problem, type_), other = lookup_.find(stride_1.problem, type_);
    claim.why_not = ours ? other.why_not : ours.why_not;
    if (ours && other) {
      const double ratio = ours.speedup() / other.speedup();
      claim.why_not = ours.few_samples().empty() ? other.few_samples() : ours.few_samples();
      claim.ours = ratio - 1;
      claim.ours_text = fmt::format("{}: {} over {} ({})", speedup_text(ratio), speedup_text(ours.speedup()),
                                    speedup_text(other.speedup()), type_);
    }
    return claim;
  }

 private:
  double published(const GnaCase& c) const { return charted(chart_, c.problem)->at(0); }

  Claim charted_claim(const std::string& statement, double speedup, const std::string& published_text) const {
    Claim claim;
    claim.statement = statement;
    claim.source = fmt::format("NATTEN's documentation, chart of the {}", chart_.machine);
    claim.published = speedup - 1;
    claim.published_text = published_text;
    claim.table = lookup_.named(kSpeedups);
    return claim;
  }

  const Lookup& lookup_;
  std::string type_;
  const Chart& chart_;
};

/// On a GPU like the charts': all that they show.
std::vector<Claim> claims_on_gpu(const Claims& claims, const std::vector<GnaCase>& cases) {
  std::vector<Claim> list;
  for (const GnaCase& c : cases) {
    if (!charted(kCharts[0], c.problem)) continue;
    list.push_back(
        claims.over_dense(c, fmt::format("On a GPU, {} with window {} and stride {} is faster than self attention.",
                                         c.model, extents_text(c.problem.window), extents_text(c.problem.stride))));
  }
  return list;
}

Section section_of(const Lookup& lookup) {
  const std::vector<std::string> types = lookup.types();
  const std::vector<GnaCase> cases = gna_cases();
  const auto find_case = [&](const char* window, const char* stride) {
    return *std::find_if(cases.begin(), cases.end(), [&](const GnaCase& c) {
      return extents_text(c.problem.window) == window && extents_text(c.problem.stride) == stride;
    });
  };
  const GnaCase hunyuan = find_case("18x24x24", "1x1x1"), block_sparse = find_case("18x24x24", "16x8x8");
  Section section;
  section.name = lookup.named(kGnaOpLevel);
  section.title = lookup.titled("Generalized Neighborhood Attention: operator level");
  section.about = {
      "Self attention, neighborhood attention and its strides on the token layouts of three generative models."};
  section.sources = {published("gna2025")["source"].as<std::string>() + ", tables 2 to 6; " +
                         published("gna2025")["device"].as<std::string>(),
                     published("natten_docs")["source"].as<std::string>() + "; H100 and B200"};
  const Claims claims(lookup, types.front());
  if (lookup.on_gpu()) {
    section.claims = claims_on_gpu(claims, cases);
  } else {
    section.claims = {
        claims.over_dense(hunyuan,
                          "Neighborhood attention of HunyuanVideo (window 18x24x24) is faster than self attention."),
        claims.over_stride_1(block_sparse, hunyuan,
                             "Stride 16x8x8, which is block-sparse, makes it faster still than stride 1.")};
  }
  for (const std::string& type : types) section.plots.push_back(chart(lookup, cases, type));
  section.plots.push_back(against_stride(lookup, cases, hunyuan, types.front()));
  section.tables = {speedup_table(lookup, cases)};
  return section;
}

}  // namespace

std::vector<GnaCase> gna_cases() {
  const YAML::Node& paper = published("gna2025");
  std::vector<GnaCase> cases;
  for (const auto& [table, model] : kGnaTables) {
    const YAML::Node& node = paper[table];
    const YAML::Node& use_case = paper["use_cases"][model];
    for (const YAML::Node& row : node.IsSequence() ? node : node["rows"]) {
      GnaCase c{model,
                {use_case["layout"].as<Extents>(),
                 row["window"].as<Extents>(),
                 row["stride"].as<Extents>(),
                 {},
                 use_case["head_dim"].as<int64_t>()}};
      if (std::find(cases.begin(), cases.end(), c) == cases.end()) cases.push_back(std::move(c));
    }
  }
  std::stable_sort(cases.begin(), cases.end(), [](const GnaCase& a, const GnaCase& b) {
    return std::tie(a.model, a.problem.window) < std::tie(b.model, b.problem.window);
  });
  return cases;
}

std::vector<Section> generalized_na_sections(const store::Results& results, const Options&) {
  std::vector<Section> sections;
  for (const Lookup& lookup : lookups(results, kGnaOpLevel)) sections.push_back(section_of(lookup));
  return sections;
}

}  // namespace nalab::report
