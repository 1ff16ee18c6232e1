#include "tests/cli/executable.h"

namespace nalab {

std::string nalab_executable() { return NALAB_EXECUTABLE; }

}  // namespace nalab
