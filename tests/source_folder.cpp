#include "tests/source_folder.h"

namespace nalab {

std::string source_folder() { return NALAB_SOURCE_DIR; }

}  // namespace nalab
