#include "report/papers/faster_na.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/problem.h"
#include "report/figures.h"
#include "store/samples.h"

namespace nalab::report {

using store::Results;
using store::Row;

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
    if (!configs.contains(row.config) || row.variant == "dense" || row.relative_bias != 0) continue;
    const int rank = static_cast<int>(parse_extents("layout", row.layout).size());
    Rows& rows = groups_[{rank, row.pass, row.type}][row.problem];
    rows.emplace(row.variant, &row);
    if (const Row* dense = indices.at(row.config).counterpart(row, "dense")) rows.emplace("dense", dense);
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

Improvement Sweep::improvement(const Group& group, const Pair& pair) const {
  Improvement result;
  const auto found = groups_.find({group.rank, group.pass, group.type});
  if (found == groups_.end()) return result;
  for (const auto& [problem, rows] : found->second) {
    ++result.problems;
    const std::string why = why_not(rows, pair);
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

std::vector<std::string> Sweep::caption(const std::vector<Group>& shown) const {
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

std::string Sweep::why_not(const Rows& rows, const Pair& pair) {
  for (const char* variant : {pair.faster, pair.slower}) {
    const auto row = rows.find(variant);
    if (row == rows.end()) return fmt::format("{} was not asked for, or the run ended before it", variant);
    if (!is_measured(*row->second)) return why_not_measured(*row->second);
  }
  return {};
}

std::string percent(double improvement) { return fmt::format("{:+} %", std::llround(improvement * 100)); }

}  // namespace nalab::report
