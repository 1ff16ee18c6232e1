#include "cli/verify_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>

#include "core/error.h"
#include "core/kernels/registry.h"

namespace nalab::cli {

namespace {

/// "dk 3.1e-07 / 1.0e-05"
std::string text(const verification::WorstError& worst) {
  return fmt::format("{} {:.1e} / {:.1e}", worst.tensor, worst.error, worst.bound);
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

/// Of the longest name in the list of tensors.
std::size_t tensor_name_width() {
  std::size_t width = 0;
  for (const TensorEntry& entry : tensor_list::kInputs) width = std::max(width, text_width(entry.gradient_name));
  return width;
}

/// Wide enough for every possible row, because rows are printed one by one.
std::vector<TerminalTable::Column> columns(const std::vector<std::string>& names) {
  using enum TerminalTable::Align;
  std::size_t name_width = 0, variant_width = 0;
  for (const std::string& name : names) name_width = std::max(name_width, text_width(name));
  for (const Variant& variant : variants()) {
    variant_width = std::max(variant_width, text_width(fmt::format("{} {}", variant.name, kStaticTiling)));
  }
  const std::size_t compared_width = text_width("stored, oracle");
  const std::size_t errors_width = tensor_name_width() + text_width(" 1.0e-07 / 1.0e-05");
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
                      const verification::VerificationResult& result, const std::string& remark) {
  ++(result.ok() ? agreeing_ : failed_);
  print_now(
      table_.line({line.name, line.variant, std::string(nalab::name(line.type)), line.compared,
                   text(result.worst_frobenius()), text(result.worst_max()), (result.ok() ? "ok" : "FAIL") + remark}));
  for (const auto& [tensor, comparison] : result.tensors) {
    if (comparison.ok) continue;
    fmt::print("  {}: {}, element {}\n", tensor, comparison.to_string(),
               element_text(comparison.worst_index, outputs.datasets.at(tensor).shape));
  }
}

void VerifyTable::skip(const std::string& name, const std::string& variant, ElementType type,
                       const std::string& reason) {
  ++skipped_;
  print_now(table_.line({name, variant, std::string(nalab::name(type)), "", "", "", "skipped: " + reason}));
}

int VerifyTable::finish(const std::string& path) const {
  if (agreeing_ + failed_ == 0) {
    throw Error(fmt::format("{}: nothing was compared, {} skipped", path, skipped_));
  }
  fmt::print("{} compared: {} ok, {} failed; {} skipped\n", agreeing_ + failed_, agreeing_, failed_, skipped_);
  return failed_ > 0 ? 1 : 0;
}

}  // namespace nalab::cli
