// The subcommands of nalab, one file each.
#pragma once

#include <CLI/CLI.hpp>

namespace nalab::cli {

/// Each adds its subcommand to the application. The subcommand's callback sets exit_code: 0 for success, 1 for a failed
/// verification; it throws nalab::Error for a bad request, which main() prints as one line and turns into exit code 2.
void add_run(CLI::App& app, int& exit_code);
void add_merge(CLI::App& app, int& exit_code);
void add_attend(CLI::App& app, int& exit_code);
void add_verify(CLI::App& app, int& exit_code);
void add_report(CLI::App& app, int& exit_code);
void add_compare(CLI::App& app, int& exit_code);
void add_selftest(CLI::App& app, int& exit_code);
void add_sim(CLI::App& app, int& exit_code);
void add_infer(CLI::App& app, int& exit_code);
void add_info(CLI::App& app, int& exit_code);
void add_list(CLI::App& app, int& exit_code);

/// Prints the models with their parameters and what they cost.
void list_models();

/// All of them, in the order in which --help lists them.
void add_commands(CLI::App& app, int& exit_code);

}  // namespace nalab::cli
