#include "experiments/cli/commands.h"

namespace nalab::cli {

void add_info(CLI::App&, int&) {}

}  // namespace nalab::cli
