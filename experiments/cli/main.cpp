// The executable: a table of contents of the subcommands, and the one place that turns errors into exit codes.
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "core/error.h"
#include "experiments/cli/commands.h"

namespace {

constexpr int kBadRequest = 2;

/// One line, whatever the message holds.
int refuse(std::string message) {
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  std::fprintf(stderr, "nalab: %s\n", message.c_str());
  return kBadRequest;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"nalab: neighborhood attention on CPUs, computed, verified, timed and reported.", "nalab"};
  app.require_subcommand(1);
  int exit_code = 0;
  nalab::cli::add_run(app, exit_code);
  nalab::cli::add_attend(app, exit_code);
  nalab::cli::add_verify(app, exit_code);
  nalab::cli::add_report(app, exit_code);
  nalab::cli::add_sim(app, exit_code);
  nalab::cli::add_info(app, exit_code);
  nalab::cli::add_list(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return refuse(error.what());
  } catch (const std::bad_alloc&) {
    return refuse("not enough memory");
  } catch (const std::exception& error) {
    return refuse(error.what());
  }
  return exit_code;
}
