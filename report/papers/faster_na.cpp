// Faster Neighborhood Attention (2403.04690), figure 1: what gemm and fused gain over naive, and what the best of ours
// does.
#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "report/modules.h"
#include "report/papers/faster_na.h"
#include "report/papers/published.h"

namespace nalab::report {
namespace {

/// Figure 1: average improvements over naive, published and here.
Plot figure(const Sweep& sweep, const std::string& pass, const std::string& type) {
  Plot plot;
  plot.name = fmt::format("faster_na_figure1_{}_{}", pass, type);
  plot.title = fmt::format("Average improvement over naive, {}", Group{1, pass, type}.pass_text());
  plot.caption = sweep.caption({{1, pass, type}, {2, pass, type}, {3, pass, type}});
  plot.caption.push_back(fmt::format("After figure 1 of Faster Neighborhood Attention (A100, fp16); here {}.", type));
  plot.x = {"rank", false};
  plot.y = {"average improvement over naive, %", false};
  plot.categories = {"1-D", "2-D", "3-D"};
  const YAML::Node& paper = published("fna2024")["figure1"][pass + "_fp16"];
  std::size_t few = 0, all = 0;
  for (const std::string variant : {"gemm", "fused", kBest}) {
    Series theirs{fmt::format("{}, published (A100)", variant), Role::published, Mark::bars, {}};
    Series ours{fmt::format("{}, here", kernel_text(variant)), Role::ours, Mark::bars, {}};
    for (int rank = 1; rank <= 3; ++rank) {
      const double x = rank - 1;
      if (variant != kBest) {
        const YAML::Node& value = paper[fmt::format("{}_over_naive_percent", variant)][plot.categories[rank - 1]];
        if (!value.IsNull()) theirs.points.push_back({x, value.as<double>()});
      }
      const Improvement improvement = sweep.improvement({rank, pass, type}, {variant.c_str(), "naive"});
      few += improvement.few;
      all += improvement.speedups.size();
      if (!improvement.speedups.empty()) ours.points.push_back({x, improvement.average() * 100});
    }
    if (variant != kBest) plot.series.push_back(std::move(theirs));
    plot.series.push_back(std::move(ours));
  }
  plot.caption.push_back(about_best());
  if (few > 0) plot.caption.push_back(few_samples_of(few, all) + ".");
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
    claim.why_not = ours.why_not.empty() ? "the results have no such problem" : ours.why_not;
    return claim;
  }
  claim.why_not = ours.few_samples();
  claim.ours = ours.average();
  claim.ours_text =
      fmt::format("{} on average, {} in the geometric mean, over {} problem{}", percent(ours.average()),
                  percent(ours.geometric_mean()), ours.speedups.size(), ours.speedups.size() == 1 ? "" : "s");
  return claim;
}

}  // namespace

std::vector<Section> faster_na_sections(const store::Results& results, const Options&) {
  const Sweep sweep(results);
  if (sweep.groups().empty()) return {};
  Section section;
  section.name = kFasterNa;
  section.title = "Faster Neighborhood Attention: operator level";
  section.about = {
      "Naive, GEMM-based and fused neighborhood attention over a sweep of problems that vary batch, layout, heads, "
      "head dim, window and dilation. The paper does not list its problems: the sweeps here have about as many, or are "
      "samples of such sweeps.",
      kQuickForm};
  section.sources = {published("fna2024")["source"].as<std::string>() + ", figure 1 and tables 1 to 4; " +
                     published("fna2024")["device"].as<std::string>()};
  section.claims = {
      claim(sweep, {1, "forward", "f16"}, "gemm"),  claim(sweep, {2, "forward", "f16"}, "gemm"),
      claim(sweep, {1, "forward", "f16"}, "fused"), claim(sweep, {2, "forward", "f16"}, "fused"),
      claim(sweep, {3, "forward", "f16"}, "fused"), claim(sweep, {2, "forward_backward", "bf16"}, "fused")};
  section.plots = {figure(sweep, "forward", "f16"), figure(sweep, "forward_backward", "bf16")};
  section.tables = {improvement_table(sweep), matches_table(sweep), fastest_table(sweep)};
  for (Table& table : choice_tables(sweep)) section.tables.push_back(std::move(table));
  return {section};
}

}  // namespace nalab::report
