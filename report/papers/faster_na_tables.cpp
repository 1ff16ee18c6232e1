// The tables of Faster Neighborhood Attention (2403.04690), tables 1 to 4: what gemm and fused gain over naive, and in
// how many problems each variant keeps up with each other and with self attention.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "report/format.h"
#include "report/papers/faster_na.h"
#include "report/papers/published.h"

namespace nalab::report {
namespace {

constexpr const char* kMatches = "faster_na_matched";
/// A variant matches another one if it takes at most 2 % longer: medians of few samples scatter by that much.
constexpr double kMatch = 1.02;
/// The variants of the paper, and the fastest of ours.
constexpr const char* kCompared[] = {"naive", "gemm", "fused", kBest};
constexpr Pair kPairs[] = {
    {"gemm", "naive"}, {"fused", "naive"}, {"fused", "gemm"}, {kBest, "naive"}, {kBest, "fused"}};
constexpr const char* kBestIsNotPublished = "the paper gives each variant by itself, not the best of them";

/// The published [average, min, max] in percent; undefined or null if there is none.
YAML::Node published_improvement(const Group& group, const Pair& pair) {
  if (pair.faster == std::string(kBest)) return YAML::Node();
  const YAML::Node& paper = published("fna2024");
  if (group.pass == "forward") return paper["table3_forward"][group.published_type()][group.rank_text()][pair.key()];
  if (group.published_type() != "fp16") return YAML::Node();
  return paper["table4_forward_backward_fp16"][group.rank_text()][pair.key()];
}

/// Why a figure of a group is not published.
std::string why_not_published(const Group& group, const std::string& kernel) {
  if (kernel == kBest) return kBestIsNotPublished;
  if (group.pass != "forward" && group.type == "f32") return "the paper has forward + backward in fp16 only";
  return "the paper has no gemm for 3-D problems";
}

Value published_type(const Group& group) {
  const bool other = group.type == "bf16";
  return {group.published_type(), "", other ? "the paper has no bf16: its fp16 is shown instead" : ""};
}

/// Variants as people read them, with a note on gemm for 3-D problems, which the paper lacks, or on what the best is
/// not chosen from.
Value variants_value(const Sweep& sweep, const Group& group, const std::string& variants) {
  if (variants.starts_with(kernel_text(kBest))) return {variants, variants, sweep.left_out(group)};
  const bool ours_alone = group.rank == 3 && variants.find("gemm") != std::string::npos;
  return {variants, variants, ours_alone ? "gemm for 3-D problems is ours: the paper has none" : ""};
}

/// A row of the table of improvements.
struct ImprovementRow {
  const Sweep* sweep;
  Group group;
  Pair pair;
  Improvement ours;
  YAML::Node theirs;  ///< see published_improvement()

  Value problems() const { return problems_value(ours.speedups.size(), ours.problems, ours.why_not); }
  Value own(double improvement) const { return {percent(improvement), exact(improvement), ours.few_samples()}; }
  Value published_figure(std::size_t i) const {
    if (!theirs.IsSequence()) return absent(why_not_published(group, pair.faster));
    const double improvement = theirs[i].as<double>() / 100;
    return {percent(improvement), exact(improvement)};
  }
};

std::vector<ColumnOf<ImprovementRow>> improvement_columns() {
  using R = ImprovementRow;
  std::vector<ColumnOf<R>> columns = group_columns<R>();
  const auto here = [](auto improvement) {
    return [improvement](const R& row) {
      return row.ours.speedups.empty() ? absent(row.ours.why_not) : row.own(improvement(row.ours));
    };
  };
  const std::vector<ColumnOf<R>> figures{
      {{"improvement of"}, "", [](const R& row) { return variants_value(*row.sweep, row.group, row.pair.text()); }},
      {{}, "faster", [](const R& row) { return plain(row.pair.faster); }},
      {{}, "slower", [](const R& row) { return plain(row.pair.slower); }},
      {{"problems", "", true}, "problems", &R::problems},
      {{}, "measured", [](const R& row) { return plain(exact(static_cast<int64_t>(row.ours.speedups.size()))); }},
      {{"average", "here", true}, "average", here([](const Improvement& ours) { return ours.average(); })},
      {{"geometric mean", "here", true}, "geometric_mean", here([](const Improvement& ours) {
         return ours.geometric_mean();
       })},
      {{"median", "here", true}, "median", here([](const Improvement& ours) { return ours.at(0.5); })},
      {{"min", "here", true}, "min", here([](const Improvement& ours) { return ours.at(0); })},
      {{"max", "here", true}, "max", here([](const Improvement& ours) { return ours.at(1); })},
      {{"type", "published"},
       "",
       [](const R& row) {
         return row.theirs.IsSequence() ? published_type(row.group)
                                        : absent(why_not_published(row.group, row.pair.faster));
       }},
      {{"average", "published", true}, "published_average", [](const R& row) { return row.published_figure(0); }},
      {{"min", "published", true}, "published_min", [](const R& row) { return row.published_figure(1); }},
      {{"max", "published", true}, "published_max", [](const R& row) { return row.published_figure(2); }},
      {{}, "with_few_samples", [](const R& row) { return plain(exact(static_cast<int64_t>(row.ours.few))); }},
  };
  columns.insert(columns.end(), figures.begin(), figures.end());
  return columns;
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

Value published_matches_value(const Group& group, const std::string& kernel, const std::string& other) {
  if (kernel == other) return plain("-");
  const YAML::Node share = published_matches(group, kernel, other);
  if (share.IsDefined() && share.IsScalar()) {
    return {fmt::format("{:.1f} %", share.as<double>()), exact(share.as<double>() / 100)};
  }
  if (kernel == kBest || other == kBest) return absent(kBestIsNotPublished);
  if (group.pass != "forward") return absent("the paper has these shares for the forward pass only");
  if (other == "flash_attention_2" && group.type == "f32") return absent("FlashAttention-2 has no fp32");
  return absent(why_not_published(group, kernel));
}

/// A kernel of a group, and how it compares with each other variant.
struct MatchesRow {
  const Sweep* sweep;
  Group group;
  std::string kernel;
  std::map<std::string, Improvement> over;
};

/// How a kernel compares with one other variant.
struct MatchRecord {
  Group group;
  std::string kernel, other;
  Improvement ours;

  Value share() const {
    if (ours.speedups.empty()) return absent(ours.why_not);
    const auto count =
        std::count_if(ours.speedups.begin(), ours.speedups.end(), [](double speedup) { return speedup * kMatch >= 1; });
    const double share = static_cast<double>(count) / static_cast<double>(ours.speedups.size());
    return {fmt::format("{:.1f} %", share * 100), exact(share), ours.few_samples()};
  }
};

constexpr const char* kOthers[] = {"naive", "gemm", "fused", kBest, "dense"};
constexpr std::pair<const char*, const char*> kPublishedOthers[] = {{"naive", "naive"},
                                                                    {"gemm", "gemm"},
                                                                    {"fused", "fused"},
                                                                    {"FMHA", "fmha"},
                                                                    {"FlashAttention-2", "flash_attention_2"}};

/// A row for each kernel of a group, with columns for each variant that it is compared with.
std::vector<ColumnOf<MatchesRow>> matches_columns() {
  using R = MatchesRow;
  std::vector<ColumnOf<R>> columns;
  for (const ColumnOf<R>& column : group_columns<R>()) columns.push_back({column.shown, "", column.value});
  columns.push_back(
      {{"variant"}, "", [](const R& row) { return variants_value(*row.sweep, row.group, kernel_text(row.kernel)); }});
  for (const char* other : kOthers) {
    const std::string heading = other == std::string("dense") ? "self attention" : kernel_text(other);
    columns.push_back({{heading, "here", true}, "", [other](const R& row) {
                         if (other == row.kernel) return plain("-");
                         return MatchRecord{row.group, row.kernel, other, row.over.at(other)}.share();
                       }});
  }
  columns.push_back({{"type", "published"}, "", [](const R& row) { return published_type(row.group); }});
  for (const auto& [heading, other] : kPublishedOthers) {
    columns.push_back({{heading, "published", true}, "", [other = other](const R& row) {
                         return published_matches_value(row.group, row.kernel, other);
                       }});
  }
  return columns;
}

/// A line for each kernel and variant that it is compared with.
std::vector<ColumnOf<MatchRecord>> match_record_columns() {
  using R = MatchRecord;
  std::vector<ColumnOf<R>> columns;
  for (const ColumnOf<R>& column : group_columns<R>()) columns.push_back({{}, column.field, column.value});
  const std::vector<ColumnOf<R>> figures{
      {{}, "variant", [](const R& row) { return plain(row.kernel); }},
      {{}, "other", [](const R& row) { return plain(row.other); }},
      {{}, "problems", [](const R& row) { return plain(exact(static_cast<int64_t>(row.ours.speedups.size()))); }},
      {{}, "share", &R::share},
      {{}, "published_share", [](const R& row) { return published_matches_value(row.group, row.kernel, row.other); }},
      {{}, "with_few_samples", [](const R& row) { return plain(exact(static_cast<int64_t>(row.ours.few))); }},
  };
  columns.insert(columns.end(), figures.begin(), figures.end());
  return columns;
}

}  // namespace

Value problems_value(std::size_t measured, std::size_t problems, const std::string& why_not) {
  const std::string all = exact(static_cast<int64_t>(problems));
  if (why_not.empty()) return plain(all);
  return {fmt::format("{} of {}", measured, all), all, "the first missing one: " + why_not};
}

Table improvement_table(const Sweep& sweep) {
  Table table;
  table.name = kImprovements;
  table.title = "Improvement at operator level (figure 1, tables 3 and 4)";
  table.caption = sweep.caption(sweep.groups());
  table.caption.emplace_back(
      "Improvement: run time of the slower variant over that of the faster one, minus 1. The paper gives the average "
      "over all problems, which a few large ratios raise, so geometric mean and median are shown beside it. Published: "
      "on an A100, over the paper's own list of problems.");
  table.caption.push_back(about_best());
  table.caption.emplace_back(kQuickForm);
  std::vector<ImprovementRow> rows;
  for (const Group& group : sweep.groups()) {
    for (const Pair& pair : kPairs) {
      rows.push_back({&sweep, group, pair, sweep.improvement(group, pair), published_improvement(group, pair)});
    }
  }
  fill(table, improvement_columns(), rows);
  return table;
}

Table matches_table(const Sweep& sweep) {
  Table table;
  table.name = kMatches;
  table.title = "Problems in which a variant matches or outperforms another (tables 1 and 2)";
  table.caption = sweep.caption(sweep.groups());
  table.caption.push_back(fmt::format(
      "In % of the problems that were measured with both. Here a variant matches another one if it takes at "
      "most {:.0f} % longer; the paper does not say what it counts as a match. Self attention is dense here "
      "and two kernels in the paper: xFormers' FMHA and FlashAttention-2.",
      (kMatch - 1) * 100));
  table.caption.push_back(about_best());
  std::vector<MatchesRow> rows;
  std::vector<MatchRecord> records;
  for (const Group& group : sweep.groups()) {
    for (const std::string kernel : kCompared) {
      rows.push_back({&sweep, group, kernel, {}});
      for (const char* other : kOthers) {
        if (kernel == other) continue;
        const Improvement ours = sweep.improvement(group, {kernel.c_str(), other});
        rows.back().over.emplace(other, ours);
        records.push_back({group, kernel, other, ours});
      }
    }
  }
  fill(table, matches_columns(), rows);
  fill(table, match_record_columns(), records);
  return table;
}

}  // namespace nalab::report
