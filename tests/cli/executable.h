// Which executable the tests of the command line run.
#pragma once

#include <string>

namespace nalab {

/// Its path is compiled into one file, so that a compiler cache keeps the others for builds elsewhere.
std::string nalab_executable();

}  // namespace nalab
