// nalab list: what can be chosen on the command line.
#include <fmt/format.h>

#include <exception>
#include <string>

#include "cli/commands.h"
#include "cli/terminal_table.h"
#include "core/error.h"
#include "core/kernels/registry.h"
#include "core/simd/isa.h"
#include "experiments/config/config.h"

namespace nalab::cli {

namespace {

void list_variants() {
  TerminalTable table({{}, {}});
  for (const Variant& variant : variants()) {
    table.add({std::string(variant.name), std::string(variant.summary)});
    table.add({"", std::string(variant.paper_term)});
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

void list_configs() {
  std::string broken;
  TerminalTable table({{}, {}});
  for (const std::string& path : config::find_configs()) {
    try {
      const config::Title title = config::load(path, config::Form::full).title;
      table.add({title.name, title.about});
      table.add({"", fmt::format("table {}, {}", title.table, path)});
    } catch (const std::exception& error) {
      broken += (broken.empty() ? "" : "; ") + std::string(error.what());
    }
  }
  fmt::print("{}", table.to_string());
  if (!broken.empty()) throw Error(broken);
}

}  // namespace

void add_list(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("list", "List the available variants, isas or configs.");
  command->require_subcommand(1);
  command->add_subcommand("variants", "Ways to compute attention, with the papers' terms")->callback(list_variants);
  command->add_subcommand("isas", "Instruction sets: which ones this CPU supports, which one is in use")
      ->callback(list_isas);
  command->add_subcommand("configs", "Experiments, with the table that each reproduces")->callback(list_configs);
}

}  // namespace nalab::cli
