#include "cli/verify_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>

#include "core/error.h"

namespace nalab::cli {

namespace {

/// "dk 3.1e-07 / 1.0e-05": the tensor whose error is greatest relative to its bound.
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

/// Wide enough for every possible row, because rows are printed one by one.
std::vector<TerminalTable::Column> columns(const std::vector<std::string>& names) {
  using enum TerminalTable::Align;
  std::size_t name_width = 0, variant_width = 0;
  for (const std::string& name : names) name_width = std::max(name_width, text_width(name));
  for (const Variant& variant : variants()) variant_width = std::max(variant_width, text_width(variant.name));
  const std::size_t compared_width = text_width("stored, oracle");
  const std::size_t errors_width = text_width("dextra_k 1.0e-07 / 1.0e-05");
  return {{"case", left, name_width},
          {"variant", left, variant_width},
          {"type", left, text_width("bf16")},
          {"compared", left, compared_width},
          {"frobenius / bound", left, errors_width},
          {"max / bound", left, errors_width},
          {"result", left, 0}};
}

void print_now(const std::string& text) {
  fmt::print("{}", text);
  std::fflush(stdout);
}

}  // namespace

VerifyTable::VerifyTable(const std::vector<std::string>& names) : table_(columns(names)) {
  print_now(table_.heading_line());
}

void VerifyTable::add(const Line& line, const store::CaseOutputs& outputs,
                      const std::vector<TensorComparison>& comparisons, const std::string& remark) {
  const bool ok = std::all_of(comparisons.begin(), comparisons.end(), [](const auto& t) { return t.comparison.ok; });
  ++(ok ? agreeing_ : failed_);
  print_now(
      table_.line({line.name, std::string(line.variant), std::string(nalab::name(line.type)), line.compared,
                   worst(comparisons, &Comparison::frobenius, &Tolerance::frobenius),
                   worst(comparisons, &Comparison::max_abs, &Tolerance::max_abs), (ok ? "ok" : "FAIL") + remark}));
  for (const auto& [tensor, comparison] : comparisons) {
    if (comparison.ok) continue;
    fmt::print("  {}: {}, element {}\n", tensor, comparison.to_string(),
               element_text(comparison.worst_index, outputs.datasets.at(tensor).shape));
  }
}

void VerifyTable::skip(const std::string& name, std::string_view variant, ElementType type, const std::string& reason) {
  ++skipped_;
  print_now(
      table_.line({name, std::string(variant), std::string(nalab::name(type)), "", "", "", "skipped: " + reason}));
}

int VerifyTable::finish(const std::string& path) const {
  if (agreeing_ + failed_ == 0) {
    throw Error(fmt::format("{}: nothing was compared, {} skipped", path, skipped_));
  }
  fmt::print("{} compared: {} ok, {} failed; {} skipped\n", agreeing_ + failed_, agreeing_, failed_, skipped_);
  return failed_ > 0 ? 1 : 0;
}

}  // namespace nalab::cli
