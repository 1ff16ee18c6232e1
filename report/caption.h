// What the caption of every table says about machine, build and samples.
#pragma once

#include <string>
#include <vector>

#include "store/schema.h"

namespace nalab::report {

/// Sentences on the rows shown: CPU, ISA and threads, or GPU, power limit and driver; revision, date; types, samples,
/// statistics; peaks; what speaks against some of the times.
std::vector<std::string> machine_caption(const store::Environment& environment,
                                         const std::vector<const store::TimedRow*>& rows);

}  // namespace nalab::report
