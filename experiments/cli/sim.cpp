#include "experiments/cli/commands.h"

namespace nalab::cli {

void add_sim(CLI::App&, int&) {}

}  // namespace nalab::cli
