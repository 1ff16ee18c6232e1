// Where and with what a run is made: what `nalab info` prints and what is stored with every result.
#pragma once

#include "core/parallel.h"
#include "core/simd/isa.h"
#include "store/schema.h"

namespace nalab::environment {

/// Everything but the measured peaks, which stay 0. Takes no time.
store::Environment describe(Isa isa, int threads);

/// With the measured peaks of the instruction set, for one thread and for all workers; about two seconds.
store::Environment measure(Isa isa, Workers& workers);

}  // namespace nalab::environment
