// Differences that keep rows from sharing one file, or from being compared without a warning.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "store/schema.h"

namespace nalab::store {

/// Something that should be the same in two runs but is not. If one of them lacks it altogether, its side is unset.
struct Difference {
  std::string what;  ///< "cpu", "config smoke", "config smoke: line 3"
  std::optional<std::string> first, second;
};

/// Machine and build: cpu, isa, gpu and its power limit, threads, compiler, flags, revision. Times and measured peaks
/// may differ.
std::vector<Difference> differences(const Environment& first, const Environment& second);

/// Compares the resolved texts; gives the first line that differs in each.
std::vector<Difference> differences(const std::vector<StoredConfig>& first, const std::vector<StoredConfig>& second);

}  // namespace nalab::store
