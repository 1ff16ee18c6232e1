#include "experiments/cli/commands.h"

namespace nalab::cli {

void add_attend(CLI::App&, int&) {}

}  // namespace nalab::cli
