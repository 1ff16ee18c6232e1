// Plots of any results: roofline, speedup by problem, against window, against stride, and histograms of improvements.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "core/problem.h"
#include "report/caption.h"
#include "report/format.h"
#include "report/speedup_view.h"

namespace nalab::report {
namespace {

using store::Row;
using Rows = std::vector<const Row*>;

constexpr std::size_t kMostBars = 40;       // problems that can be told apart in one plot
constexpr std::size_t kFewestPoints = 3;    // of a curve
constexpr std::size_t kMostCurves = 4;      // plots of one kind for a configuration
constexpr std::size_t kFewestCounted = 30;  // problems of a histogram

/// The problems of one type and pass.
struct Slice {
  std::string type, pass;
  Rows problems;

  std::string title() const { return type + ", " + pass_text(pass); }
};

std::vector<Slice> slices_of(const SpeedupView& view) {
  std::vector<Slice> slices;
  for (const Row* row : view.problems) {
    const auto found = std::find_if(slices.begin(), slices.end(), [&](const Slice& slice) {
      return slice.type == row->type && slice.pass == row->pass;
    });
    Slice& slice = found != slices.end() ? *found : slices.emplace_back(Slice{row->type, row->pass, {}});
    slice.problems.push_back(row);
  }
  return slices;
}

const Row* measured(const SpeedupView& view, const Row& problem, const std::string& variant) {
  const Row* row = view.index.counterpart(problem, variant);
  return row != nullptr && is_measured(*row) ? row : nullptr;
}

/// The speedups that a plot shows.
struct Shown {
  std::vector<double> values;
  std::size_t few = 0;  ///< of them rest on fewer than kFewestSamples samples
};

/// FLOPs of the baseline over those of a row; none if there is no such row.
std::optional<double> flops_ratio(const SpeedupView& view, const Row& problem, const Row* row, int64_t Row::*flops) {
  const Row* baseline = view.index.counterpart(problem, view.baseline);
  if (baseline == nullptr || row == nullptr || row->*flops <= 0) return std::nullopt;
  return static_cast<double>(baseline->*flops) / static_cast<double>(row->*flops);
}

/// A field of a row that has a number for each axis.
struct AxesField {
  const char* name;
  std::string Row::*text;

  bool operator==(const AxesField& other) const { return text == other.text; }

  /// "18x24x24" as a number of tokens: 10368.
  double product(const Row& row) const {
    double result = 1;
    for (const int64_t value : parse_extents(name, row.*text)) result *= static_cast<double>(value);
    return result;
  }
};
constexpr AxesField kWindow{"window", &Row::window}, kStride{"stride", &Row::stride},
    kDilation{"dilation", &Row::dilation};

std::vector<std::string> caption_of(const SpeedupView& view, const Rows& rows, std::string sentence,
                                    const Shown& shown) {
  std::vector<std::string> caption{std::move(sentence),
                                   machine_caption(view.results.environment, {rows.begin(), rows.end()}).front()};
  const std::string few = few_samples_of(shown.few, shown.values.size());
  if (!few.empty()) caption.push_back(few + ".");
  return caption;
}

bool has_spread(const std::vector<double>& values) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return !values.empty() && *least > 0 && *most / *least > 20;
}

/// A series for each variant but the baseline, with a point for each row that was measured. `where` gives x.
std::vector<Series> speedup_series(const SpeedupView& view, const Rows& problems, Mark mark,
                                   const std::function<double(std::size_t)>& where, Shown& shown) {
  std::vector<Series> all;
  for (const std::string& variant : view.variants) {
    if (variant == view.baseline) continue;
    Series series{variant, Role::ours, mark, {}};
    for (std::size_t i = 0; i < problems.size(); ++i) {
      const Row* row = measured(view, *problems[i], variant);
      if (row == nullptr) continue;
      const Speedup over = speedup(view, *problems[i], *row);
      if (!over.value) continue;
      series.points.push_back({where(i), *over.value});
      shown.values.push_back(*over.value);
      if (!over.note.empty()) ++shown.few;
    }
    if (!series.points.empty()) all.push_back(std::move(series));
  }
  return all;
}

/// What the FLOPs alone would allow: `flops` of the baseline over those of the problem's row, by default of any
/// variant.
Series bound_series(const SpeedupView& view, const Rows& problems, std::string name, Mark mark,
                    const std::function<double(std::size_t)>& where, int64_t Row::*flops,
                    const std::string& variant = {}) {
  Series series{std::move(name), Role::bound, mark, {}};
  for (std::size_t i = 0; i < problems.size(); ++i) {
    const Row* row = variant.empty() ? problems[i] : view.index.counterpart(*problems[i], variant);
    if (const auto ratio = flops_ratio(view, *problems[i], row, flops)) series.points.push_back({where(i), *ratio});
  }
  return series;
}

constexpr const char* kFlopWise = "FLOP-wise bound";

/// Names that tell problems apart: labels, and in what those of one label differ.
std::vector<std::string> names_of(const SpeedupView& view, const Rows& problems) {
  std::map<std::string, Rows> by_label;
  for (const Row* row : problems) by_label[row->label].push_back(row);
  std::vector<std::string> names;
  for (const Row* row : problems) {
    std::string name = row->label;
    const Rows& alike = by_label[row->label];
    for (const Trait<Row>& trait : view.traits) {
      const std::string heading = trait.heading, text = trait.text(*row);
      if (heading == "type" || heading == "pass") continue;
      const bool differs = std::ranges::any_of(alike, [&](const Row* other) { return trait.text(*other) != text; });
      if (row->label.empty() || differs) name += fmt::format("{}{} {}", name.empty() ? "" : ", ", heading, text);
    }
    names.push_back(name);
  }
  return names;
}

std::optional<Plot> bars(const SpeedupView& view, const Slice& slice) {
  if (slice.problems.size() < 2 || slice.problems.size() > kMostBars) return std::nullopt;
  Plot plot;
  plot.name = fmt::format("{}_speedup_{}_{}", view.name, slice.type, slice.pass);
  plot.title = fmt::format("Speedup over {} by problem, {}", view.baseline, slice.title());
  plot.categories = names_of(view, slice.problems);
  Shown shown;
  const auto index = [](std::size_t i) { return static_cast<double>(i); };
  plot.series = speedup_series(view, slice.problems, Mark::bars, index, shown);
  if (plot.series.empty()) return std::nullopt;
  plot.series.push_back(bound_series(view, slice.problems, kFlopWise, Mark::points, index, &Row::useful_flops));
  plot.y = {fmt::format("speedup over {}, times", view.baseline), has_spread(shown.values)};
  plot.caption = caption_of(view, slice.problems,
                            fmt::format("Times of {} over those of each variant, medians; longer is faster. The bound "
                                        "is what the FLOPs of attended pairs would allow.",
                                        view.baseline),
                            shown);
  return plot;
}

/// Problems that differ in one parameter only, `varied`: each group sorted by it, those with most values first.
std::vector<Rows> groups_by(const Slice& slice, const AxesField& varied) {
  std::vector<std::pair<std::string, Rows>> groups;
  for (const Row* row : slice.problems) {
    Row key = *row;
    key.*varied.text = "";
    // The rest of a row is about its result.
    const std::string text = fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {}", key.layout, key.window, key.stride,
                                         key.dilation, key.causal, key.batch, key.heads, key.heads_kv, key.head_dim,
                                         key.head_dim_v, key.extra_tokens, key.relative_bias, key.scale);
    auto found = std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group.first == text; });
    if (found == groups.end()) found = groups.insert(groups.end(), {text, {}});
    found->second.push_back(row);
  }
  std::vector<Rows> result;
  for (auto& [key, rows] : groups) {
    if (rows.size() < kFewestPoints) continue;
    std::stable_sort(rows.begin(), rows.end(), [&](const Row* a, const Row* b) {
      return std::pair(varied.product(*a), a->*varied.text) < std::pair(varied.product(*b), b->*varied.text);
    });
    result.push_back(std::move(rows));
  }
  std::stable_sort(result.begin(), result.end(), [](const Rows& a, const Rows& b) { return a.size() > b.size(); });
  if (result.size() > kMostCurves) result.resize(kMostCurves);
  return result;
}

/// The problem of a group, except for what is varied.
std::string problem_text(const Row& row, const AxesField& varied) {
  std::string text = "Layout " + row.layout;
  for (const AxesField& field : {kWindow, kStride, kDilation}) {
    const bool is_usual = field.product(row) == 1 && field != kWindow;
    if (field != varied && !is_usual) text += fmt::format(", {} {}", field.name, row.*field.text);
  }
  return fmt::format("{}, head dim {}, batch x heads {}", text, row.head_dim, row.batch * row.heads);
}

std::optional<Plot> against_window(const SpeedupView& view, const Slice& slice, const Rows& rows, std::size_t number) {
  Plot plot;
  plot.name = fmt::format("{}_window_{}_{}_{}", view.name, slice.type, slice.pass, number);
  plot.title = fmt::format("Speedup over {} against window, {}", view.baseline, slice.title());
  const auto tokens = [&](std::size_t i) { return kWindow.product(*rows[i]); };
  Shown shown;
  plot.series = speedup_series(view, rows, Mark::line_and_points, tokens, shown);
  if (plot.series.empty()) return std::nullopt;
  plot.series.push_back(bound_series(view, rows, kFlopWise, Mark::line, tokens, &Row::useful_flops));
  plot.x = {"window, tokens (of all axes together)", true};
  plot.y = {fmt::format("speedup over {}, times", view.baseline), true};
  plot.caption = caption_of(view, rows,
                            fmt::format("{}. The bound is what the FLOPs of attended pairs would allow.",
                                        problem_text(*rows.front(), kWindow)),
                            shown);
  return plot;
}

std::optional<Plot> against_stride(const SpeedupView& view, const Slice& slice, const Rows& rows, std::size_t number) {
  Plot plot;
  plot.name = fmt::format("{}_stride_{}_{}_{}", view.name, slice.type, slice.pass, number);
  plot.title = fmt::format("Speedup over {} against stride, {}", view.baseline, slice.title());
  const auto index = [](std::size_t i) { return static_cast<double>(i); };
  for (const Row* row : rows) plot.categories.push_back(row->stride);
  Shown shown;
  plot.series = speedup_series(view, rows, Mark::line_and_points, index, shown);
  if (plot.series.empty()) return std::nullopt;
  const std::string tiled = std::ranges::find(view.variants, "hopper") != view.variants.end() ? "hopper" : "fused";
  plot.series.push_back(bound_series(view, rows, fmt::format("simulated: FLOPs that {} executes", tiled),
                                     Mark::line_and_points, index, &Row::executed_flops, tiled));
  plot.series.push_back(bound_series(view, rows, kFlopWise, Mark::line, index, &Row::useful_flops));
  plot.x = {"stride, tokens", false};
  plot.y = {fmt::format("speedup over {}, times", view.baseline), has_spread(shown.values)};
  plot.caption =
      caption_of(view, rows,
                 fmt::format("{}. Simulated: executed FLOPs of {} over those of {}, whose tiles hold masked pairs "
                             "too. The FLOP-wise bound counts attended pairs alone.",
                             problem_text(*rows.front(), kStride), view.baseline, tiled),
                 shown);
  return plot;
}

std::optional<Plot> improvements(const SpeedupView& view, const Slice& slice) {
  const std::vector<std::pair<std::string, std::string>> pairs{
      {"fused", "naive"}, {"gemm", "naive"}, {"fused", "gemm"}, {"banded", "naive"}, {"banded", "fused"}};
  std::vector<Sample> samples;
  Shown shown;
  for (const auto& [variant, other] : pairs) {
    Sample sample{fmt::format("{} over {}", variant, other), Role::ours, {}};
    std::size_t few = 0;
    for (const Row* problem : slice.problems) {
      const Row *row = measured(view, *problem, variant), *base = measured(view, *problem, other);
      if (row == nullptr || base == nullptr) continue;
      if (!few_samples(*row, *base).empty()) ++few;
      sample.values.push_back(figures_of(view.results.environment, *base).median /
                              figures_of(view.results.environment, *row).median);
    }
    if (sample.values.size() < kFewestCounted) continue;
    shown.values.insert(shown.values.end(), sample.values.begin(), sample.values.end());
    shown.few += few;
    samples.push_back(std::move(sample));
  }
  if (samples.empty()) return std::nullopt;
  Plot plot = histogram(fmt::format("{}_improvements_{}_{}", view.name, slice.type, slice.pass),
                        "How often which speedup, " + slice.title(), "speedup, times", samples);
  plot.caption = caption_of(view, slice.problems, "Problems by speedup; each bin ends at twice its start.", shown);
  return plot;
}

/// The points of a roofline.
struct RooflinePoints {
  std::vector<Series> useful;  ///< of each variant
  Series executed{"all executed FLOPs", Role::baseline, Mark::points, {}};
  Rows rows;
  std::set<std::string> arithmetics;                                 ///< of the rows
  double least = std::numeric_limits<double>::infinity(), most = 0;  ///< FLOP/B
};

RooflinePoints roofline_points(const SpeedupView& view, const std::string& pass) {
  RooflinePoints points;
  std::set<const Row*> seen;
  for (const std::string& variant : view.variants) {
    Series series{variant, variant == view.baseline ? Role::baseline : Role::ours, Mark::points, {}};
    for (const Row* problem : view.problems) {
      const Row* row = problem->pass == pass ? measured(view, *problem, variant) : nullptr;
      if (row == nullptr || row->tensor_bytes <= 0 || row->useful_flops <= 0 || !seen.insert(row).second) continue;
      const auto point = [&](int64_t flops) {
        const double intensity = static_cast<double>(flops) / static_cast<double>(row->tensor_bytes);
        points.least = std::min(points.least, intensity);
        points.most = std::max(points.most, intensity);
        return Point{intensity, static_cast<double>(flops) / figures_of(view.results.environment, *row).median / 1e9};
      };
      series.points.push_back(point(row->useful_flops));
      if (row->executed_flops > row->useful_flops) points.executed.points.push_back(point(row->executed_flops));
      points.arithmetics.insert({row->arithmetic, row->backward_arithmetic});
      points.rows.push_back(row);
    }
    if (!series.points.empty()) points.useful.push_back(std::move(series));
  }
  return points;
}

/// GFLOP/s against FLOP per byte of tensors, with the lines that bandwidth and peaks draw.
std::optional<Plot> roofline(const SpeedupView& view, const std::string& pass) {
  const double bandwidth = view.results.environment.copy_bandwidth;
  if (bandwidth <= 0) return std::nullopt;
  RooflinePoints points = roofline_points(view, pass);
  std::vector<store::Peak> peaks = view.results.environment.peaks;
  std::erase_if(peaks, [&](const store::Peak& peak) { return !points.arithmetics.contains(peak.name); });
  if (points.rows.size() < kFewestPoints || peaks.empty()) return std::nullopt;

  double least = points.least, most = points.most;
  double highest = 0;
  for (const store::Peak& peak : peaks) {
    highest = std::max(highest, peak.all_threads);
    least = std::min(least, peak.all_threads / bandwidth);
  }
  most = std::max(most, highest / bandwidth);
  least /= 2;
  most *= 2;
  Plot plot;
  plot.name = fmt::format("{}_roofline_{}", view.name, pass);
  plot.title = "Roofline, " + pass_text(pass);
  plot.x = {"work per size of the tensors, FLOP/B", true};
  plot.y = {"rate, GFLOP/s", true};
  for (const store::Peak& peak : peaks) {
    const double rate = peak.all_threads;
    plot.series.push_back({fmt::format("{} peak {} GFLOP/s", peak.name, significant(rate / 1e9, 3)),
                           Role::bound,
                           Mark::line,
                           {{rate / bandwidth, rate / 1e9}, {most, rate / 1e9}}});
  }
  plot.series.push_back({fmt::format("copy {} GB/s", significant(bandwidth / 1e9, 3)),
                         Role::bound,
                         Mark::line,
                         {{least, bandwidth * least / 1e9}, {highest / bandwidth, highest / 1e9}}});
  if (!points.executed.points.empty()) plot.series.push_back(std::move(points.executed));
  for (Series& series : points.useful) plot.series.push_back(std::move(series));
  plot.caption = caption_of(
      view, points.rows,
      "One point for each problem, type and variant, by its useful FLOPs; if the variant executes masked pairs "
      "too, another point has all its FLOPs. The lines are the measured peaks of the arithmetics used and "
      "the bandwidth of copying; what fits into the caches can lie above the latter.",
      {});
  return plot;
}

}  // namespace

std::vector<Plot> speedup_plots(const SpeedupView& view) {
  std::vector<Plot> plots;
  const auto keep = [&](std::optional<Plot> plot) {
    if (plot) plots.push_back(std::move(*plot));
  };
  for (const Slice& slice : slices_of(view)) {
    keep(improvements(view, slice));
    if (view.baseline.empty()) continue;
    keep(bars(view, slice));
    std::size_t number = 0;
    for (const Rows& rows : groups_by(slice, kWindow)) keep(against_window(view, slice, rows, ++number));
    number = 0;
    for (const Rows& rows : groups_by(slice, kStride)) keep(against_stride(view, slice, rows, ++number));
  }
  std::set<std::string> passes;
  for (const Row* problem : view.problems) {
    if (passes.insert(problem->pass).second) keep(roofline(view, problem->pass));
  }
  return plots;
}

}  // namespace nalab::report
