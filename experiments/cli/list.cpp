#include "experiments/cli/commands.h"

namespace nalab::cli {

void add_list(CLI::App&, int&) {}

}  // namespace nalab::cli
