// nalab list: what can be chosen on the command line.
#include <fmt/format.h>

#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/terminal_table.h"
#include "core/error.h"
#include "core/kernels/registry.h"
#include "core/plan.h"
#include "core/simd/arithmetic.h"
#include "core/simd/isa.h"
#include "experiments/config/config.h"

namespace nalab::cli {

namespace {

void list_variants() {
  TerminalTable table({{}, {}});
  for (const Variant& variant : variants()) {
    table.add({std::string(variant.name), std::string(variant.summary)});
    table.add({"", std::string(variant.paper_term)});
    if (variant.split != nullptr)
      table.add({"", "has the weights in memory: computes the passes of the operators on them"});
    if (variant.device != Device::cpu) {
      const auto reason = why_not_here(variant.device);
      table.add({"", reason ? "not here: " + *reason : "computes on the GPU that is here"});
    }
  }
  fmt::print("{}", table.to_string());
}

void list_isas() {
  const Isa in_use = choose_isa();
  TerminalTable table({{}, {}});
  for (const Isa isa : all_isas()) {
    const std::string support = cpu_supports(isa) ? "supported" : "not supported";
    table.add({std::string(name(isa)), support + (isa == in_use ? ", in use" : "")});
  }
  fmt::print("{}", table.to_string());
}

void list_arithmetics() {
  const Isa isa = choose_isa();
  TerminalTable table({{}, {}});
  for (const Arithmetic& arithmetic : arithmetics()) {
    const bool here = available(arithmetic, isa);
    const auto no_device = why_not_here(arithmetic.device);
    table.add({std::string(arithmetic.name), std::string(arithmetic.summary)});
    table.add({"", here ? arithmetic.preferred() ? "available" : "available, but not the faster choice on this CPU"
                   : no_device ? "not available: " + *no_device
                               : "not available with this CPU or NALAB_ISA"});
  }
  fmt::print("{}", table.to_string());
}

void list_tilings() {
  TerminalTable table({{}, {}});
  table.add({std::string(kBestTiling), "the first choice of the cost model"});
  table.add({std::string(kStaticTiling), "its first choice with KV tiles on a fixed grid (static KV tiling)"});
  table.add({Tiling{.query = {1, 4, 8}, .super = {2, 2, 1}}.to_string(), "a tiling as rows of results store it:"});
  table.add({"", "q query tile, s query tiles of a super tile, kv KV tile (1x1x1: dynamic), l lanes,"});
  table.add({"", "h query heads of a super tile, b keys of a block; flat_ before it: the layout as one axis"});
  fmt::print("{}", table.to_string());
  std::string tiled;
  for (const Variant& variant : variants()) {
    if (variant.candidates != nullptr) tiled += (tiled.empty() ? "" : ", ") + std::string(variant.name);
  }
  fmt::print("Variants with tiles: {}. nalab run --dry-run shows the tiling of each row.\n", tiled);
}

void list_configs() {
  std::string broken;
  TerminalTable table({{}, {}});
  const std::vector<std::string> paths = config::find_configs();
  for (const std::string& path : paths) {
    try {
      const config::Title title = config::load(path, config::Form::full).title;
      table.add({title.name, title.about});
      table.add({"", fmt::format("table {}, {}", title.table, path)});
    } catch (const std::exception& error) {
      broken += (broken.empty() ? "" : "; ") + std::string(error.what());
    }
  }
  const auto folder = std::filesystem::absolute(paths.front()).parent_path();
  fmt::print("{}All of them are in {}\n", table.to_string(), folder.string());
  if (!broken.empty()) throw Error(broken);
}

}  // namespace

void add_list(CLI::App& app, int&) {
  CLI::App* command =
      app.add_subcommand("list", "List what can be chosen: variants, isas, arithmetics, tilings, configs or models.");
  command->require_subcommand(1);
  command->add_subcommand("variants", "Ways to compute attention, with the papers' terms")->callback(list_variants);
  command->add_subcommand("isas", "Instruction sets: which ones this CPU supports, which one is in use")
      ->callback(list_isas);
  command->add_subcommand("arithmetics", "Ways to multiply: what each computes, which ones this CPU prefers")
      ->callback(list_arithmetics);
  command->add_subcommand("tilings", "Tilings by name, and how one is written")->callback(list_tilings);
  command->add_subcommand("configs", "Experiments, with the table that each reproduces")->callback(list_configs);
  command->add_subcommand("models", "Whole models, with their parameters and multiply-adds")->callback(list_models);
}

}  // namespace nalab::cli
