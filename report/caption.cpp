#include "report/caption.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "core/simd/arithmetic.h"
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
  if (arithmetic == "wgmma") return "bf16 tile products on the GPU";
  if (arithmetic == "f32_amx3") return "f32 tile products in three bf16 parts (AMX)";
  return arithmetic;
}

/// "naive of NAT-T level 1"; the id without a label.
std::string name_of(const store::TimedRow& row) {
  return row.label.empty() ? row.id : row.variant + " of " + row.label;
}

/// "425.0 GFLOP/s", "780.0 TFLOP/s"
std::string rate_text(double rate) {
  constexpr double kMostGigas = 1e13;
  return rate < kMostGigas ? significant(rate / 1e9, 4) + " GFLOP/s" : significant(rate / 1e12, 4) + " TFLOP/s";
}

bool is_of_gpu(const store::Peak& peak) {
  return std::ranges::any_of(arithmetics(), [&peak](const Arithmetic& arithmetic) {
    return arithmetic.name == peak.name && arithmetic.device != Device::cpu;
  });
}

/// Those of the devices that rows ran on.
std::string peaks_text(const store::Environment& environment, bool on_cpu, bool on_gpu) {
  std::vector<std::string> texts;
  for (const store::Peak& peak : environment.peaks) {
    if (!(is_of_gpu(peak) ? on_gpu : on_cpu)) continue;
    texts.push_back(fmt::format("{} of {}", rate_text(peak.all_threads), operations_of(peak.name)));
  }
  if (texts.empty()) return "Peaks were not measured.";
  return fmt::format("Peaks, measured in the same run: {}{}.", fmt::join(texts, ", "),
                     texts.size() == 1 ? "" : " (rows are compared with the peak of their arithmetic)");
}

/// "NVIDIA H100 80GB HBM3, 132 multiprocessors up to 1980 MHz, 700 W, driver 580.159.04"
std::string gpu_text(const store::Environment& e) {
  std::string text =
      fmt::format("{}, {} multiprocessors up to {:.0f} MHz", e.gpu, e.gpu_multiprocessors, e.gpu_clock / 1e6);
  if (e.gpu_power_limit > 0) text += fmt::format(", {:.0f} W", e.gpu_power_limit);
  if (!e.gpu_driver.empty()) text += ", driver " + e.gpu_driver;
  return text;
}

/// "Intel Xeon, avx512, 2 threads"
std::string cpu_text(const store::Environment& environment, const std::vector<const store::TimedRow*>& rows) {
  std::set<std::string> isas, threads;
  for (const store::TimedRow* row : rows) {
    if (row->on_gpu()) continue;
    isas.insert(row->isa);
    threads.insert(std::to_string(row->threads));
  }
  return fmt::format("{}, {}, {} thread{}", environment.cpu, enumerate(isas), enumerate(threads),
                     threads == std::set<std::string>{"1"} ? "" : "s");
}

}  // namespace

std::vector<std::string> machine_caption(const store::Environment& environment,
                                         const std::vector<const store::TimedRow*>& rows) {
  std::set<std::string> types;
  for (const store::TimedRow* row : rows) types.insert(row->type);
  const auto is_on_gpu = [&](const store::TimedRow* row) { return ran_on_gpu(environment, *row); };
  const bool on_gpu = std::ranges::any_of(rows, is_on_gpu), on_cpu = !std::ranges::all_of(rows, is_on_gpu);
  std::vector<std::string> machine;
  if (on_cpu) machine.push_back(cpu_text(environment, rows));
  if (on_gpu) machine.push_back(gpu_text(environment));
  std::vector<std::string> caption{
      fmt::format("{}; git revision {}; {}.", fmt::join(machine, "; "), environment.revision, environment.started),
      fmt::format("Type{} {}; {}; times are medians, the spread is the interquartile range in % of the median.",
                  types.size() == 1 ? "" : "s", enumerate(types), samples_text(rows)),
      peaks_text(environment, on_cpu, on_gpu),
  };
  if (on_gpu) {
    caption.emplace_back(
        "Times on the GPU are its own, between two events; copies of tensors to it and back are no part of them.");
  }
  const auto times = static_cast<std::size_t>(
      std::ranges::count_if(rows, [](const store::TimedRow* row) { return is_measured(*row); }));
  for (const store::Doubt& doubt : store::doubts(environment, rows)) {
    caption.push_back(store::sentence(doubt, times, name_of) + ".");
  }
  return caption;
}

}  // namespace nalab::report
