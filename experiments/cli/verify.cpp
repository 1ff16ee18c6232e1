#include "experiments/cli/commands.h"

namespace nalab::cli {

void add_verify(CLI::App&, int&) {}

}  // namespace nalab::cli
