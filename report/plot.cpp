#include "report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace nalab::report {
namespace {

/// The n of 2^n <= value < 2^(n+1).
int bin_of(double value) { return std::ilogb(value); }

/// "1/4", "2"
std::string power_text(int n) {
  return n < 0 ? fmt::format("1/{:.0f}", std::exp2(-n)) : fmt::format("{:.0f}", std::exp2(n));
}

}  // namespace

Plot histogram(std::string name, std::string title, std::string x_label, std::span<const Sample> samples) {
  std::map<int, int> seen;
  for (const Sample& sample : samples) {
    for (const double value : sample.values) ++seen[bin_of(value)];
  }
  const int first = seen.begin()->first, last = seen.rbegin()->first;

  Plot plot;
  plot.name = std::move(name);
  plot.title = std::move(title);
  plot.x = {std::move(x_label), false};
  plot.y = {"problems", false};
  for (int n = first; n <= last; ++n) {
    plot.categories.push_back(fmt::format("{} to {}", power_text(n), power_text(n + 1)));
  }
  for (const Sample& sample : samples) {
    std::vector<Point> points(plot.categories.size());
    for (std::size_t i = 0; i < points.size(); ++i) points[i].x = static_cast<double>(i);
    for (const double value : sample.values) ++points[static_cast<std::size_t>(bin_of(value) - first)].y;
    plot.series.push_back({sample.name, sample.role, Mark::bars, std::move(points)});
  }
  return plot;
}

}  // namespace nalab::report
