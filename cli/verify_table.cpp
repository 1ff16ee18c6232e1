#include "cli/verify_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>

#include "core/error.h"

namespace nalab::cli {

namespace {

/// "dk 3.1e-07 / 1.0e-05": the tensor whose error is greatest beside its bound.
std::string worst(const std::vector<TensorComparison>& comparisons, double Comparison::*error,
                  double Tolerance::*bound) {
  const auto share = [&](const TensorComparison& t) { return t.comparison.*error / (t.comparison.bound.*bound); };
  const auto greatest = std::max_element(comparisons.begin(), comparisons.end(),
                                         [&](const auto& a, const auto& b) { return share(a) < share(b); });
  return fmt::format("{} {:.1e} / {:.1e}", greatest->tensor, greatest->comparison.*error,
                     greatest->comparison.bound.*bound);
}

/// "[0, 3, 1, 5]" of a flat index.
std::string element_text(int64_t index, const std::vector<int64_t>& shape) {
  std::vector<int64_t> element(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    element[axis] = index % shape[axis];
    index /= shape[axis];
  }
  return fmt::format("[{}]", fmt::join(element, ", "));
}

}  // namespace

VerifyTable::VerifyTable(const std::vector<std::string>& names) {
  for (const std::string& name : names) name_width_ = std::max(name_width_, name.size());
  print("case", "variant", "type", "compared", "frobenius / bound", "max / bound", "result");
}

void VerifyTable::print(const std::string& name, std::string_view variant, std::string_view type,
                        std::string_view compared, std::string_view frobenius, std::string_view max,
                        std::string_view result) const {
  fmt::print("{:<{}}  {:<9}  {:<4}  {:<16}  {:<26}  {:<26}  {}\n", name, name_width_, variant, type, compared,
             frobenius, max, result);
  std::fflush(stdout);
}

void VerifyTable::add(const Line& line, const store::CaseOutputs& outputs,
                      const std::vector<TensorComparison>& comparisons, const std::string& remark) {
  const bool ok = std::all_of(comparisons.begin(), comparisons.end(), [](const auto& t) { return t.comparison.ok; });
  ++(ok ? agreeing_ : failed_);
  print(line.name, line.variant, nalab::name(line.type), line.compared,
        worst(comparisons, &Comparison::frobenius, &Tolerance::frobenius),
        worst(comparisons, &Comparison::max_abs, &Tolerance::max_abs), (ok ? "ok" : "FAIL") + remark);
  for (const auto& [tensor, comparison] : comparisons) {
    if (comparison.ok) continue;
    fmt::print("  {}: {}, element {}\n", tensor, comparison.to_string(),
               element_text(comparison.worst_index, outputs.datasets.at(tensor).shape));
  }
}

void VerifyTable::skip(const std::string& name, std::string_view variant, ElementType type, const std::string& reason) {
  ++skipped_;
  print(name, variant, nalab::name(type), "", "", "", "skipped: " + reason);
}

int VerifyTable::finish(const std::string& path) const {
  if (agreeing_ + failed_ == 0) {
    throw Error(fmt::format("{}: nothing was compared, {} skipped", path, skipped_));
  }
  fmt::print("{} compared: {} ok, {} failed; {} skipped\n", agreeing_ + failed_, agreeing_, failed_, skipped_);
  return failed_ > 0 ? 1 : 0;
}

}  // namespace nalab::cli
