// What the tables of Generalized NA at operator level and end to end share.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "report/papers/lookup.h"

namespace nalab::report {

/// The table that configurations of the use cases name.
inline constexpr const char* kGnaOpLevel = "gna_op_level";

/// A row of the published tables.
struct GnaCase {
  std::string model;  ///< "Cosmos-7B"
  Case problem;

  bool operator==(const GnaCase&) const = default;
};

/// The end-to-end tables in data/published/gna2025.yaml with their use cases.
inline constexpr std::pair<const char*, const char*> kGnaTables[] = {{"table2_flux", "FLUX.1-dev (4K)"},
                                                                     {"table3_cosmos", "Cosmos-7B"},
                                                                     {"table4_hunyuan", "HunyuanVideo"},
                                                                     {"table5_hunyuan_runtime", "HunyuanVideo"},
                                                                     {"table6_flux_runtime", "FLUX.1-dev (4K)"}};

/// Each window and stride of those tables once, window by window.
std::vector<GnaCase> gna_cases();

}  // namespace nalab::report
