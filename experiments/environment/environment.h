// The machine and the build of a run: what `nalab info` prints and what is stored with every result.
#pragma once

#include <string>

#include "core/parallel.h"
#include "core/simd/isa.h"
#include "store/schema.h"

namespace nalab::environment {

/// "nalab 0.1.0, revision 0123456789ab"
std::string version();

/// Everything except what is measured: no peaks, and a bandwidth of 0. Takes no time.
store::Environment describe(Isa isa, int threads);

/// Roughly how long measure() takes.
inline constexpr double kMeasureSeconds = 2;

/// With the measured peaks, for one thread and for all workers: those of the instruction set, and those of bf16 dot
/// products wherever the CPU has them.
store::Environment measure(Isa isa, Workers& workers);

}  // namespace nalab::environment
