// Where the source tree is, whose data and configurations tests read.
#pragma once

#include <string>

namespace nalab {

/// Its path is compiled into one file, so that a compiler cache keeps the others for trees elsewhere.
std::string source_folder();

}  // namespace nalab
