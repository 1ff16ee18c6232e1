#include "experiments/cli/commands.h"

namespace nalab::cli {

void add_run(CLI::App&, int&) {}

}  // namespace nalab::cli
