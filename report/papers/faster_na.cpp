// Faster Neighborhood Attention (2403.04690), figure 1 and tables 1 to 4: what gemm and fused gain over naive, and in
// how many problems each variant keeps up with each other and with self attention.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "report/figures.h"
#include "report/format.h"
#include "report/modules.h"
#include "report/papers/lookup.h"
#include "report/papers/published.h"
#include "store/samples.h"

namespace nalab::report {
namespace {

using store::Results;
using store::Row;

constexpr const char* kTable = "faster_na";
constexpr const char* kImprovements = "faster_na_improvement";
constexpr const char* kMatches = "faster_na_matched";
/// A variant matches another one where it takes at most 2 % longer: no more than what medians of few samples scatter.
constexpr double kMatch = 1.02;
/// configs/fna_1d.yaml, fna_2d.yaml and fna_3d.yaml say how these shares come about.
constexpr const char* kQuickForm =
    "The quick form (120 problems a rank) is a sample of the cheaper 32 % of the 1-D, 31 % of the 2-D and 21 % of the "
    "3-D problems: where a group has no more than 120, its figures say nothing of larger ones.";
constexpr const char* kKernels[] = {"naive", "gemm", "fused"};

struct Pair {
  const char* faster;
  const char* slower;
  std::string text() const { return fmt::format("{} over {}", faster, slower); }
  std::string key() const { return fmt::format("{}_over_{}", faster, slower); }
};
constexpr Pair kPairs[] = {{"gemm", "naive"}, {"fused", "naive"}, {"fused", "gemm"}};

/// Problems of one rank, in one type and pass.
struct Group {
  int rank = 1;
  std::string pass, type;

  std::string rank_text() const { return fmt::format("{}-D", rank); }
  std::string pass_text() const { return pass == "forward" ? "forward" : "forward + backward"; }
  /// The paper has no bf16: its other type of 16 bits stands beside it.
  std::string published_type() const { return type == "f32" ? "fp32" : "fp16"; }
};

/// The rows of one problem by variant; dense is its self attention.
using Rows = std::map<std::string, const Row*>;

/// What a pair of variants has in a group.
struct Improvement {
  std::vector<double> speedups;  ///< of the problems in which both were measured
  std::size_t problems = 0;
  std::string why_not;  ///< of the first problem in which one was not; empty where all were

  double average() const {
    double sum = 0;
    for (const double speedup : speedups) sum += speedup - 1;
    return sum / static_cast<double>(speedups.size());
  }
  double geometric_mean() const {
    double sum = 0;
    for (const double speedup : speedups) sum += std::log(speedup);
    return std::exp(sum / static_cast<double>(speedups.size())) - 1;
  }
  double at(double quantile_of) const { return store::quantile(speedups, quantile_of) - 1; }
};

class Sweep {
 public:
  explicit Sweep(const Results& results) : results_(results) {
    const std::set<std::string> configs = configs_of(results, kTable);
    std::map<std::string, RowIndex> indices;
    for (const std::string& config : configs) indices.emplace(config, RowIndex(results.rows, config));
    for (const Row& row : results.rows) {
      if (!configs.contains(row.config) || row.variant == "dense") continue;
      const int rank = 1 + static_cast<int>(std::count(row.layout.begin(), row.layout.end(), 'x'));
      Rows& rows = groups_[{rank, row.pass, row.type}][row.problem];
      rows.emplace(row.variant, &row);
      if (const Row* dense = indices.at(row.config).counterpart(row, "dense")) rows.emplace("dense", dense);
    }
  }

  /// By rank, pass and type, f32 first.
  std::vector<Group> groups() const {
    std::vector<Group> list;
    for (const int rank : {1, 2, 3}) {
      for (const char* pass : {"forward", "forward_backward"}) {
        for (const char* type : {"f32", "f16", "bf16"}) {
          if (groups_.contains({rank, pass, type})) list.push_back({rank, pass, type});
        }
      }
    }
    return list;
  }

  Improvement improvement(const Group& group, const Pair& pair) const {
    Improvement result;
    const auto found = groups_.find({group.rank, group.pass, group.type});
    if (found == groups_.end()) return result;
    for (const auto& [problem, rows] : found->second) {
      ++result.problems;
      const std::string why = why_not(rows, pair);
      if (why.empty()) {
        result.speedups.push_back(store::median(rows.at(pair.slower)->samples) /
                                  store::median(rows.at(pair.faster)->samples));
      } else if (result.why_not.empty()) {
        result.why_not = why;
      }
    }
    return result;
  }

  /// Of the rows of these groups.
  std::vector<std::string> caption(const std::vector<Group>& shown) const {
    std::vector<const Row*> rows;
    for (const Group& group : shown) {
      const auto found = groups_.find({group.rank, group.pass, group.type});
      if (found == groups_.end()) continue;
      for (const auto& [problem, variants] : found->second) {
        for (const auto& [variant, row] : variants) rows.push_back(row);
      }
    }
    return caption_of(results_, rows);
  }

 private:
  static std::string why_not(const Rows& rows, const Pair& pair) {
    for (const char* variant : {pair.faster, pair.slower}) {
      const auto row = rows.find(variant);
      if (row == rows.end()) return fmt::format("{} was not asked for, or the run ended before it", variant);
      if (!is_measured(*row->second)) return why_not_measured(*row->second);
    }
    return {};
  }

  const Results& results_;
  std::map<std::tuple<int, std::string, std::string>, std::map<std::string, Rows>> groups_;
};

/// "+150 %"; what rounds to nothing is "+0 %".
std::string percent(double improvement) { return fmt::format("{:+} %", std::llround(improvement * 100)); }

/// The published [average, min, max] in percent; undefined or null where there is none.
YAML::Node published_improvement(const Group& group, const Pair& pair) {
  const YAML::Node& paper = published("fna2024");
  if (group.pass == "forward") return paper["table3_forward"][group.published_type()][group.rank_text()][pair.key()];
  if (group.published_type() != "fp16") return YAML::Node();
  return paper["table4_forward_backward_fp16"][group.rank_text()][pair.key()];
}

/// Why a figure of a group is not published.
std::string why_not_published(const Group& group) {
  if (group.pass != "forward" && group.type == "f32") return "the paper has forward + backward in fp16 only";
  return "the paper has no gemm for 3-D problems";
}

Cell published_type_cell(Table& table, const Group& group) {
  const bool other = group.type == "bf16";
  return {group.published_type(), other ? table.footnote("the paper has no bf16: its fp16 stands beside it") : 0};
}

/// A 3-D gemm is something that the paper lacks.
int gemm_note(Table& table, const Group& group, const std::string& variants) {
  const bool ours_alone = group.rank == 3 && variants.find("gemm") != std::string::npos;
  return ours_alone ? table.footnote("gemm for 3-D problems is ours: the paper has none") : 0;
}

Cell count_cell(Table& table, const Improvement& improvement) {
  const std::string count = fmt::format("{} of {}", improvement.speedups.size(), improvement.problems);
  if (improvement.why_not.empty()) return {exact(static_cast<int64_t>(improvement.problems))};
  return {count, table.footnote("the first one that is missing: " + improvement.why_not)};
}

Table improvement_table(const Sweep& sweep) {
  Table table;
  table.name = kImprovements;
  table.title = "Improvement at operator level (figure 1, tables 3 and 4)";
  table.caption = sweep.caption(sweep.groups());
  table.caption.emplace_back(
      "Improvement: run time of the slower variant over that of the faster one, less 1. The paper gives the average of "
      "all problems, which a few great ratios lift: geometric mean and median stand beside it. Published: on an A100, "
      "over a list of problems of its own.");
  table.caption.emplace_back(kQuickForm);
  table.columns = {{"rank", "", false},
                   {"pass", "", false},
                   {"type", "", false},
                   {"improvement of", "", false},
                   {"problems", "", true}};
  for (const char* heading : {"average", "geometric mean", "median", "min", "max"}) {
    table.columns.push_back({heading, "here", true});
  }
  table.columns.push_back({"type", "published", false});
  for (const char* heading : {"average", "min", "max"}) table.columns.push_back({heading, "published", true});
  table.records.fields = {
      "rank",         "pass",           "type",   "faster", "slower", "problems",          "measured",
      "average",      "geometric_mean", "median", "min",    "max",    "published_average", "published_min",
      "published_max"};

  for (const Group& group : sweep.groups()) {
    for (const Pair& pair : kPairs) {
      const Improvement ours = sweep.improvement(group, pair);
      std::vector<Cell> cells{{group.rank_text()},
                              {group.pass_text()},
                              {group.type},
                              {pair.text(), gemm_note(table, group, pair.text())},
                              count_cell(table, ours)};
      std::vector<std::string> line{exact(static_cast<int64_t>(group.rank)),
                                    group.pass,
                                    group.type,
                                    pair.faster,
                                    pair.slower,
                                    exact(static_cast<int64_t>(ours.problems)),
                                    exact(static_cast<int64_t>(ours.speedups.size()))};
      if (ours.speedups.empty()) {
        cells.resize(cells.size() + 5, missing(table, ours.why_not));
        line.resize(line.size() + 5);
      } else {
        for (const double value : {ours.average(), ours.geometric_mean(), ours.at(0.5), ours.at(0), ours.at(1)}) {
          cells.push_back({percent(value)});
          line.push_back(exact(value));
        }
      }
      const YAML::Node theirs = published_improvement(group, pair);
      if (theirs.IsSequence()) {
        cells.push_back(published_type_cell(table, group));
        for (const YAML::Node& value : theirs) {
          cells.push_back({percent(value.as<double>() / 100)});
          line.push_back(exact(value.as<double>() / 100));
        }
      } else {
        cells.resize(cells.size() + 4, missing(table, why_not_published(group)));
        line.resize(line.size() + 3);
      }
      table.rows.push_back(std::move(cells));
      table.records.lines.push_back(std::move(line));
    }
  }
  return table;
}

/// The published share of problems, in percent, in which one kernel keeps up with another.
YAML::Node published_matches(const Group& group, const std::string& kernel, const std::string& other) {
  if (group.pass != "forward") return YAML::Node();
  const char* name = group.published_type() == "fp32" ? "table2_forward_fp32_percent_matched_or_outperformed"
                                                      : "table1_forward_fp16_percent_matched_or_outperformed";
  const YAML::Node& ranks = published("fna2024")[name];
  const YAML::Node kernels = ranks[group.rank_text()][kernel];
  return kernels.IsDefined() ? kernels[other] : YAML::Node();
}

Cell published_matches_cell(Table& table, const Group& group, const std::string& kernel, const std::string& other) {
  if (kernel == other) return {"-"};
  const YAML::Node share = published_matches(group, kernel, other);
  if (share.IsDefined() && share.IsScalar()) return {fmt::format("{:.1f} %", share.as<double>())};
  if (group.pass != "forward") return missing(table, "the paper has these shares for the forward pass only");
  if (other == "flash_attention_2" && group.type == "f32") return missing(table, "FlashAttention-2 has no fp32");
  return missing(table, why_not_published(group));
}

Table matches_table(const Sweep& sweep) {
  Table table;
  table.name = kMatches;
  table.title = "Problems in which a variant matches or outperforms another (tables 1 and 2)";
  table.caption = sweep.caption(sweep.groups());
  table.caption.push_back(
      fmt::format("In % of the problems that were measured with both. Here a variant matches another one where it "
                  "takes at most {:.0f} % "
                  "longer; the paper does not say what it counts as a match. Self attention is dense here, and two "
                  "kernels in the paper: "
                  "xFormers' FMHA and FlashAttention-2.",
                  (kMatch - 1) * 100));
  table.columns = {{"rank", "", false}, {"pass", "", false}, {"type", "", false}, {"variant", "", false}};
  for (const char* heading : {"naive", "gemm", "fused", "self attention"})
    table.columns.push_back({heading, "here", true});
  table.columns.push_back({"type", "published", false});
  for (const char* heading : {"naive", "gemm", "fused", "FMHA", "FlashAttention-2"}) {
    table.columns.push_back({heading, "published", true});
  }
  table.records.fields = {"rank", "pass", "type", "variant", "other", "problems", "share", "published_share"};
  for (const Group& group : sweep.groups()) {
    for (const char* kernel : kKernels) {
      std::vector<Cell> cells{
          {group.rank_text()}, {group.pass_text()}, {group.type}, {kernel, gemm_note(table, group, kernel)}};
      for (const std::string other : {"naive", "gemm", "fused", "dense"}) {
        if (other == kernel) {
          cells.push_back({"-"});
          continue;
        }
        const Improvement ours = sweep.improvement(group, {kernel, other.c_str()});
        std::optional<double> share;
        if (!ours.speedups.empty()) {
          const auto count = std::count_if(ours.speedups.begin(), ours.speedups.end(),
                                           [](double speedup) { return speedup * kMatch >= 1; });
          share = static_cast<double>(count) / static_cast<double>(ours.speedups.size());
        }
        cells.push_back(cell_or(
            table, share, [](double x) { return fmt::format("{:.1f} %", x * 100); }, ours.why_not));
        const YAML::Node theirs = published_matches(group, kernel, other);
        table.records.lines.push_back(
            {exact(static_cast<int64_t>(group.rank)), group.pass, group.type, kernel, other,
             exact(static_cast<int64_t>(ours.speedups.size())), share ? exact(*share) : "",
             theirs.IsDefined() && theirs.IsScalar() ? exact(theirs.as<double>() / 100) : ""});
      }
      cells.push_back(published_type_cell(table, group));
      for (const char* other : {"naive", "gemm", "fused", "fmha", "flash_attention_2"}) {
        cells.push_back(published_matches_cell(table, group, kernel, other));
      }
      table.rows.push_back(std::move(cells));
    }
  }
  return table;
}

/// Figure 1: average improvements over naive, published and here.
Plot figure(const Sweep& sweep, const std::string& pass, const std::string& type) {
  Plot plot;
  plot.name = fmt::format("faster_na_figure1_{}_{}", pass, type);
  plot.title = fmt::format("Average improvement over naive, {}", Group{1, pass, type}.pass_text());
  plot.caption = sweep.caption({{1, pass, type}, {2, pass, type}, {3, pass, type}});
  plot.caption.push_back(
      fmt::format("In the manner of figure 1 of Faster Neighborhood Attention (A100, fp16); here {}.", type));
  plot.x = {"rank", false};
  plot.y = {"average improvement over naive, %", false};
  plot.categories = {"1-D", "2-D", "3-D"};
  const YAML::Node& paper = published("fna2024")["figure1"][pass + "_fp16"];
  for (const char* variant : {"gemm", "fused"}) {
    Series theirs{fmt::format("{}, published (A100)", variant), Role::kPublished, Mark::kBars, {}};
    Series ours{fmt::format("{}, here", variant), Role::kOurs, Mark::kBars, {}};
    for (int rank = 1; rank <= 3; ++rank) {
      const double x = rank - 1;
      const YAML::Node& value = paper[fmt::format("{}_over_naive_percent", variant)][plot.categories[rank - 1]];
      if (!value.IsNull()) theirs.points.push_back({x, value.as<double>()});
      const Improvement improvement = sweep.improvement({rank, pass, type}, {variant, "naive"});
      if (!improvement.speedups.empty()) ours.points.push_back({x, improvement.average() * 100});
    }
    plot.series.push_back(std::move(theirs));
    plot.series.push_back(std::move(ours));
  }
  return plot;
}

/// A figure of figure 1 as a claim.
Claim claim(const Sweep& sweep, const Group& group, const char* variant) {
  const Improvement ours = sweep.improvement(group, {variant, "naive"});
  Claim claim;
  claim.statement = fmt::format("{} is faster than naive on {} problems, {}, {}.",
                                variant == std::string("gemm") ? "GEMM-based" : "Fused", group.rank_text(),
                                group.pass_text(), group.type);
  claim.source = "Faster NA (arXiv:2403.04690), figure 1";
  claim.published =
      published(
          "fna2024")["figure1"][group.pass + "_fp16"][fmt::format("{}_over_naive_percent", variant)][group.rank_text()]
          .as<double>() /
      100;
  claim.published_text = fmt::format("{} on average (A100, fp16)", percent(claim.published));
  claim.table = kImprovements;
  if (ours.speedups.empty()) {
    claim.why_not = ours.why_not.empty() ? "no such problem is among the results" : ours.why_not;
    return claim;
  }
  claim.ours = ours.average();
  claim.ours_text =
      fmt::format("{} on average, {} in the geometric mean, over {} problem{}", percent(ours.average()),
                  percent(ours.geometric_mean()), ours.speedups.size(), ours.speedups.size() == 1 ? "" : "s");
  return claim;
}

}  // namespace

std::vector<Section> faster_na_sections(const Results& results, const Options&) {
  const Sweep sweep(results);
  if (sweep.groups().empty()) return {};
  Section section;
  section.name = kTable;
  section.title = "Faster Neighborhood Attention: operator level";
  section.about = {
      "Naive, GEMM-based and fused neighborhood attention over a sweep of problems that vary batch, layout, heads, "
      "head dim, window "
      "and dilation. The paper does not list its problems: the sweeps here are of about its size, or samples of that.",
      kQuickForm};
  section.sources = {published("fna2024")["source"].as<std::string>() + ", figure 1 and tables 1 to 4; " +
                     published("fna2024")["device"].as<std::string>()};
  section.claims = {
      claim(sweep, {1, "forward", "f16"}, "gemm"),  claim(sweep, {2, "forward", "f16"}, "gemm"),
      claim(sweep, {1, "forward", "f16"}, "fused"), claim(sweep, {2, "forward", "f16"}, "fused"),
      claim(sweep, {3, "forward", "f16"}, "fused"), claim(sweep, {2, "forward_backward", "bf16"}, "fused")};
  section.plots = {figure(sweep, "forward", "f16"), figure(sweep, "forward_backward", "bf16")};
  section.tables = {improvement_table(sweep), matches_table(sweep)};
  return {section};
}

}  // namespace nalab::report
