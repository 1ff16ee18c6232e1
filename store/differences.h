// What keeps rows from standing in one file, or from being compared without a warning.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "store/schema.h"

namespace nalab::store {

/// Something that two runs should have in common and have not. Where one of them lacks it altogether, that side is
/// unset.
struct Difference {
  std::string what;  ///< "cpu", "config smoke", "config smoke: line 3"
  std::optional<std::string> first, second;
};

/// Machine and build: cpu, isa, threads, compiler, flags, revision. Times and measured peaks may differ.
std::vector<Difference> differences(const Environment& first, const Environment& second);

/// By their resolved texts; the first line that differs of each.
std::vector<Difference> differences(const std::vector<StoredConfig>& first, const std::vector<StoredConfig>& second);

}  // namespace nalab::store
