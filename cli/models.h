// Models on the command line; where they are not built, cli/without_models.cpp says so.
#pragma once

#include <string>

#include "models/definition.h"

namespace nalab::cli {

/// The model of a name: among those of a file, or of the ones that are compiled in if `file` is empty. Throws Error
/// that lists the names.
models::Definition find_model(const std::string& name, const std::string& file);

}  // namespace nalab::cli
