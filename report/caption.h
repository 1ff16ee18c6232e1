// What the caption of every table says about machine, build and samples.
#pragma once

#include <string>
#include <vector>

#include "store/schema.h"

namespace nalab::report {

/// Two sentences on the rows shown: CPU, ISA, threads, revision, date; types, samples, statistics, peaks.
std::vector<std::string> machine_caption(const store::Environment& environment,
                                         const std::vector<const store::Row*>& rows);

}  // namespace nalab::report
