#include "experiments/cli/commands.h"

namespace nalab::cli {

void add_report(CLI::App&, int&) {}

}  // namespace nalab::cli
