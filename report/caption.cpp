#include "report/caption.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/kernels/registry.h"
#include "report/figures.h"
#include "report/format.h"
#include "store/doubts.h"

namespace nalab::report {
namespace {

std::string samples_text(const std::vector<const store::TimedRow*>& rows) {
  std::size_t least = 0, most = 0;
  for (const store::TimedRow* row : rows) {
    if (!is_measured(*row)) continue;
    const std::size_t count = row->samples.size();
    least = least == 0 ? count : std::min(least, count);
    most = std::max(most, count);
  }
  if (most == 0) return "nothing was timed";
  if (least == most) return fmt::format("{} sample{} of each time", most, most == 1 ? "" : "s");
  return fmt::format("{} to {} samples of each time", least, most);
}

/// What an arithmetic does, in words if they are known.
std::string operations_of(const std::string& arithmetic) {
  if (arithmetic == "f32_fma") return "f32 multiply-adds";
  if (arithmetic == "bf16_dot") return "bf16 dot products";
  if (arithmetic == "bf16_amx") return "bf16 tile products (AMX)";
  if (arithmetic == "f32_amx3") return "f32 tile products in three bf16 parts (AMX)";
  return arithmetic;
}

/// "naive of NAT-T level 1"; the id without a label.
std::string name_of(const store::TimedRow& row) {
  return row.label.empty() ? row.id : row.variant + " of " + row.label;
}

std::string peaks_text(const store::Environment& environment) {
  if (environment.peaks.empty()) return "Peaks were not measured.";
  std::string text;
  for (const store::Peak& peak : environment.peaks) {
    text += fmt::format("{}{} GFLOP/s of {}", text.empty() ? "" : ", ", significant(peak.all_threads / 1e9, 4),
                        operations_of(peak.name));
  }
  const bool one = environment.peaks.size() == 1;
  return fmt::format("Peaks, measured in the same run: {}{}.", text,
                     one ? "" : " (rows are compared with the peak of their arithmetic)");
}

/// Whether a row was computed on another device than the CPU.
bool is_of_device(const store::TimedRow* row) {
  return std::ranges::any_of(variants(), [row](const Variant& variant) {
    return variant.name == row->variant && variant.device != Device::cpu;
  });
}

}  // namespace

std::vector<std::string> machine_caption(const store::Environment& environment,
                                         const std::vector<const store::TimedRow*>& rows) {
  std::set<std::string> isas, threads, types;
  for (const store::TimedRow* row : rows) {
    isas.insert(row->isa);
    threads.insert(std::to_string(row->threads));
    types.insert(row->type);
  }
  const bool has_device = !environment.gpu.empty() && std::ranges::any_of(rows, is_of_device);
  std::vector<std::string> caption{
      fmt::format("{}, {}, {} thread{}{}; git revision {}; {}.", environment.cpu, enumerate(isas), enumerate(threads),
                  threads == std::set<std::string>{"1"} ? "" : "s", has_device ? "; " + environment.gpu : "",
                  environment.revision, environment.started),
      fmt::format("Type{} {}; {}; times are medians, the spread is the interquartile range in % of the median.",
                  types.size() == 1 ? "" : "s", enumerate(types), samples_text(rows)),
      peaks_text(environment),
  };
  const auto times = static_cast<std::size_t>(
      std::ranges::count_if(rows, [](const store::TimedRow* row) { return is_measured(*row); }));
  for (const store::Doubt& doubt : store::doubts(environment, rows)) {
    caption.push_back(store::sentence(doubt, times, name_of) + ".");
  }
  return caption;
}

}  // namespace nalab::report
