// The executable: a table of contents of the subcommands, and the one place that turns errors into exit codes.
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/damaged_files.h"
#include "cli/standard_streams.h"
#include "core/error.h"
#include "experiments/environment/environment.h"

namespace {

constexpr int kBadRequest = 2;

/// Prints one line, even if the message contains several.
int refuse(const std::string& message) {
  std::fprintf(stderr, "nalab: %s\n", nalab::cli::printable(message).c_str());
  return kBadRequest;
}

/// The error for a subcommand that the innermost command given lacks, or does not know; empty if that is not what is
/// wrong.
std::string wrong_subcommand(const CLI::App& app) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  const std::vector<const CLI::App*> known = command->get_subcommands([](const CLI::App*) { return true; });
  const std::vector<std::string> arguments = command->remaining();
  if (known.empty()) return "";
  std::string names;
  for (const CLI::App* subcommand : known) names += (names.empty() ? "" : ", ") + subcommand->get_name();
  if (arguments.empty()) return "a subcommand is missing, must be one of " + names;
  if (arguments.front().starts_with('-')) return "unknown option '" + arguments.front() + "'";
  return "unknown subcommand '" + arguments.front() + "', must be one of " + names;
}

/// The exit code of a command line. Throws what the commands throw.
int run(int argc, char** argv) {
  CLI::App app{"nalab: neighborhood attention on CPUs, computed, verified, timed and reported.", "nalab"};
  app.require_subcommand(1);
  app.set_version_flag(
      "--version", [] { return nalab::environment::version(); }, "Print the version and the revision");
  int exit_code = 0;
  nalab::cli::add_commands(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    const std::string wrong = wrong_subcommand(app);
    return refuse(wrong.empty() ? error.what() : wrong);
  }
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    nalab::cli::open_standard_streams();
    std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond a limit is an error of the write
    nalab::cli::refuse_damaged_files(kBadRequest);
    const int exit_code = run(argc, argv);
    // What is still in the buffer may not fit on the disk.
    const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    return written || exit_code == kBadRequest ? exit_code : refuse("standard output cannot be written");
  } catch (const std::bad_alloc&) {
    return refuse("not enough memory");
  } catch (const std::exception& error) {
    return refuse(error.what());
  }
}
