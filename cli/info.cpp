// nalab info: the CPU, the build, and the measured peaks of the machine.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/terminal_table.h"
#include "core/parallel.h"
#include "core/simd/arithmetic.h"
#include "core/simd/isa.h"
#include "experiments/environment/environment.h"
#include "experiments/environment/limits.h"

namespace nalab::cli {
namespace {

struct Options {
  std::string isa;
  int threads = 0;
  bool json = false;
};

std::string readable(const std::string& text, std::string_view) { return text.empty() ? "none" : text; }

std::string readable(int64_t value, std::string_view unit) {
  if (unit != "B") return fmt::format("{}", value);
  if (value == 0) return "unknown";
  constexpr int64_t kGiB = 1 << 30, kMiB = 1 << 20, kKiB = 1 << 10;
  if (value >= 4 * kGiB) return fmt::format("{:.1f} GiB", static_cast<double>(value) / kGiB);
  if (value >= kMiB) return fmt::format("{:.4g} MiB", static_cast<double>(value) / kMiB);
  return fmt::format("{:.4g} KiB", static_cast<double>(value) / kKiB);
}

std::string readable(double value, std::string_view unit) {
  if (value == 0) return "none";
  if (unit == "CPUs") return fmt::format("{:.3g}", value);
  if (unit == "W") return fmt::format("{:.0f} W", value);
  if (unit == "Hz") return fmt::format("{:.0f} MHz", value / 1e6);
  return fmt::format("{:.1f} G{}", value / 1e9, unit);
}

/// "l1d_bytes" -> "l1d": the unit is printed with the value.
std::string label(std::string name) {
  if (name.ends_with("_bytes")) name.resize(name.size() - 6);
  for (char& c : name) {
    if (c == '_') c = ' ';
  }
  return name;
}

void print_lines(const store::Environment& environment) {
  TerminalTable table({{}, {}});
  store::Environment::visit_fields(environment, [&](const char* name, const auto& value, const char* unit) {
    if (environment.gpu.empty() && std::string_view(name).starts_with("gpu_")) return;
    table.add({label(name), readable(value, unit)});
  });
  for (const store::Peak& peak : environment.peaks) {
    const bool is_of_cpu = find_arithmetic(peak.name).device == Device::cpu;
    table.add({"peak " + peak.name,
               fmt::format("{} on one {}, {} on all", readable(peak.one_thread, "FLOP/s"),
                           is_of_cpu ? "thread" : "multiprocessor", readable(peak.all_threads, "FLOP/s"))});
  }
  fmt::print("{}", table.to_string());
}

template <class T>
nlohmann::ordered_json to_json(const T& object) {
  nlohmann::ordered_json json;
  T::visit_fields(object, [&](const char* name, const auto& value, const char*) { json[name] = value; });
  return json;
}

void print_json(const store::Environment& environment) {
  nlohmann::ordered_json json = to_json(environment);
  json["peaks"] = nlohmann::ordered_json::array();
  for (const store::Peak& peak : environment.peaks) json["peaks"].push_back(to_json(peak));
  fmt::print("{}\n", json.dump(2));
}

}  // namespace

void add_info(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("info", "Show the CPU, the build and the measured peaks of this machine.");
  auto options = std::make_shared<Options>();
  command->add_flag("--json", options->json, "Print one JSON object: bytes, FLOP/s and B/s, unrounded");
  command->add_option("--isa", options->isa, "Instruction set to measure (default: NALAB_ISA, else the best)");
  add_threads(*command, options->threads);
  command->callback([options] {
    const Isa isa = options->isa.empty() ? choose_isa() : parse_isa(options->isa);
    Workers workers(choose_threads(options->threads));
    const store::Environment environment = environment::measure(isa, workers);
    const std::string warning =
        environment::crowding(workers.threads(), environment.hardware_threads, environment.cpu_quota);
    if (!warning.empty()) fmt::print(stderr, "nalab: {}\n", warning);
    options->json ? print_json(environment) : print_lines(environment);
  });
}

}  // namespace nalab::cli
