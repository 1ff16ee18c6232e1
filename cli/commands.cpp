#include "cli/commands.h"

namespace nalab::cli {

void add_commands(CLI::App& app, int& exit_code) {
  add_run(app, exit_code);
  add_merge(app, exit_code);
  add_attend(app, exit_code);
  add_verify(app, exit_code);
  add_report(app, exit_code);
  add_compare(app, exit_code);
  add_selftest(app, exit_code);
  add_sim(app, exit_code);
  add_infer(app, exit_code);
  add_info(app, exit_code);
  add_list(app, exit_code);
}

}  // namespace nalab::cli
