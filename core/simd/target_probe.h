// Which of the functions compiled for each target a limit on instructions selects: so that a table of results can be
// trusted to be of the instruction set that it names.
#pragma once

#include <string_view>

#include "core/simd/isa.h"

namespace nalab {

/// Highway's name of the target for which the function was compiled that runs within a limit: "AVX3" (AVX-512), "AVX2",
/// or what the compiler targets by default. Requires a CPU that supports the limit.
std::string_view compiled_target(Isa isa);

}  // namespace nalab
