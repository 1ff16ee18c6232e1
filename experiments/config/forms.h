// Mappings that have a quick form: keys under `quick` override those beside it.
#pragma once

#include <string>
#include <vector>

#include "experiments/config/config.h"

namespace nalab::config {

/// The entries with overrides in place of those of the same key, or after them.
std::vector<Field> overridden(const std::vector<Field>& entries, const std::vector<Field>& overrides);

/// The entries of a mapping in a form. Refuses keys other than `known` and quick.
std::vector<Field> entries_in_form(const Field& mapping, Form form, const std::vector<std::string>& known);

}  // namespace nalab::config
