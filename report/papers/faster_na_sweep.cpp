#include "report/papers/faster_na.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "report/figures.h"
#include "store/samples.h"

namespace nalab::report {

using store::Results;
using store::Row;

namespace {

/// The fastest of kKernels that has times; null if none has.
const Row* fastest_of(const Sweep::Rows& rows) {
  const Row* fastest = nullptr;
  for (const char* kernel : kKernels) {
    if (!why_not(rows, kernel).empty()) continue;
    const Row* row = rows.at(kernel);
    if (fastest == nullptr || store::median(row->samples) < store::median(fastest->samples)) fastest = row;
  }
  return fastest;
}

}  // namespace

std::string kernel_text(const std::string& kernel) {
  if (kernel == kBest) return "ours (best)";
  return kernel == "fused" ? "fused (tiles)" : kernel;
}

double Improvement::average() const {
  double sum = 0;
  for (const double speedup : speedups) sum += speedup - 1;
  return sum / static_cast<double>(speedups.size());
}

double Improvement::geometric_mean() const {
  double sum = 0;
  for (const double speedup : speedups) sum += std::log(speedup);
  return std::exp(sum / static_cast<double>(speedups.size())) - 1;
}

double Improvement::at(double quantile_of) const { return store::quantile(speedups, quantile_of) - 1; }

Sweep::Sweep(const Results& results) : results_(results) {
  const std::set<std::string> configs = configs_of(results, kFasterNa);
  std::map<std::string, RowIndex> indices;
  for (const std::string& config : configs) indices.emplace(config, RowIndex(results.rows, config));
  for (const Row& row : results.rows) {
    if (!configs.contains(row.config) || row.variant == "dense" || row.relative_bias != 0 || row.on_gpu()) continue;
    const int rank = static_cast<int>(parse_extents("layout", row.layout).size());
    Rows& rows = groups_[{rank, row.pass, row.type}][row.problem];
    rows.emplace(row.variant, &row);
    if (const Row* dense = indices.at(row.config).counterpart(row, "dense")) rows.emplace("dense", dense);
  }
  for (auto& [group, problems] : groups_) {
    for (auto& [problem, rows] : problems) {
      if (const Row* fastest = fastest_of(rows)) rows.emplace(kBest, fastest);
    }
  }
}

std::vector<Group> Sweep::groups() const {
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

const std::map<std::string, Sweep::Rows>& Sweep::problems(const Group& group) const {
  static const std::map<std::string, Rows> none;
  const auto found = groups_.find({group.rank, group.pass, group.type});
  return found == groups_.end() ? none : found->second;
}

Improvement Sweep::improvement(const Group& group, const Pair& pair) const {
  Improvement result;
  for (const auto& [problem, rows] : problems(group)) {
    ++result.problems;
    std::string why = why_not(rows, pair.faster);
    if (why.empty()) why = why_not(rows, pair.slower);
    if (why.empty()) {
      if (!few_samples(*rows.at(pair.faster), *rows.at(pair.slower)).empty()) ++result.few;
      result.speedups.push_back(store::median(rows.at(pair.slower)->samples) /
                                store::median(rows.at(pair.faster)->samples));
    } else if (result.why_not.empty()) {
      result.why_not = why;
    }
  }
  return result;
}

std::string Sweep::left_out(const Group& group) const {
  std::vector<std::string> reasons;
  const std::map<std::string, Rows>& all = problems(group);
  for (const char* kernel : kKernels) {
    const bool is_there =
        std::ranges::any_of(all, [&](const auto& problem) { return why_not(problem.second, kernel).empty(); });
    if (!is_there && !all.empty()) reasons.push_back(why_not(all.begin()->second, kernel));
  }
  return reasons.empty() ? "" : fmt::format("the best of the others: {}", fmt::join(reasons, "; "));
}

std::vector<std::string> Sweep::caption(const std::vector<Group>& shown) const {
  std::vector<const Row*> rows;
  for (const Group& group : shown) {
    for (const auto& [problem, variants] : problems(group)) {
      for (const auto& [variant, row] : variants) rows.push_back(row);
    }
  }
  return caption_of(results_, rows);
}

std::string why_not(const Sweep::Rows& rows, const std::string& variant) {
  const auto row = rows.find(variant);
  if (row != rows.end()) return is_measured(*row->second) ? "" : why_not_measured(*row->second);
  if (variant == kBest) {
    const auto* first = std::ranges::find_if(kKernels, [&](const char* kernel) { return rows.contains(kernel); });
    return "none of the variants has times: " + why_not(rows, first == std::end(kKernels) ? kKernels[0] : *first);
  }
  return fmt::format("{} was not asked for, or the run ended before it", variant);
}

std::string about_best() {
  const std::vector<std::string> kernels(std::begin(kKernels), std::end(kKernels));
  return fmt::format(
      "Fused (tiles) is the paper's fused neighborhood attention. Ours (best) is, problem by problem, type by type and "
      "pass by pass, the fastest of {} among those that were measured: the least of several medians, so scatter "
      "flatters it a little.",
      enumerate(kernels));
}

std::string percent(double improvement) { return fmt::format("{:+} %", std::llround(improvement * 100)); }

}  // namespace nalab::report
