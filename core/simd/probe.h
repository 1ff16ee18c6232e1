// How fast the machine is at this moment, and what fits into its memory. Apart from core/simd/peak.h, which all kernels
// include.
#pragma once

#include <cstdint>

#include "core/parallel.h"
#include "core/simd/isa.h"

namespace nalab {

/// The rate of all threads by measure_fma_f32, from a few milliseconds.
double probe_fma_f32(Isa isa, Workers& workers);

/// Bytes of an array that measure_copy_bandwidth copies for a cache of this size, or less if two such arrays are more
/// than a quarter of the free memory, but no less than the cache; 0 if that does not fit. Copied with a quarter of this
/// as the size of the cache.
int64_t copied_bytes(int64_t cache_bytes, int64_t free_bytes);

}  // namespace nalab
