// The peak of the tensor cores.
#pragma once

#include "core/simd/peak.h"

namespace nalab::gpu::hopper {

/// Products of tiles of bf16 added to float32, FLOP/s: of random numbers, since tensor cores that multiply zeros draw
/// less power and run faster. All multiprocessors, and as `one_thread` one of them alone. Throws Error.
PeakRate measure_peak();

}  // namespace nalab::gpu::hopper
