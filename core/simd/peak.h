// What the machine can do at most, measured: the denominators of "percent of peak".
#pragma once

#include <cstdint>

#include "core/parallel.h"
#include "core/simd/isa.h"

namespace nalab {

/// Rates of independent arithmetic, on registers unless said, FLOP/s; a multiply-add counts as two.
struct PeakRate {
  double one_thread = 0;
  double all_threads = 0;
};

/// float32 fused multiply-adds; a multiplication and an addition if the instruction set has no fused form.
PeakRate measure_fma_f32(Isa isa, Workers& workers);

/// Products of bf16 pairs added to float32. Requires a CPU with AVX512_BF16.
PeakRate measure_dot_bf16(Workers& workers);

/// Products of tiles of bf16 on the matrix unit, added to float32: of random numbers, since a unit that multiplies
/// zeros runs faster, and with the loads of operands from the first-level cache. Requires a CPU with AMX.
PeakRate measure_amx_bf16(Workers& workers);

/// The rate of one thread's bf16 dot products over that of its float32 multiply-adds, from a few short loops of each in
/// turn (half a millisecond in all). Requires a CPU with AVX512_BF16.
double ratio_of_dot_bf16_to_fma_f32();

/// Bytes read plus bytes written per second while all workers copy one array into another. Each array holds
/// min(4 * cache_bytes, 512 MiB): far more than a cache of this machine's own, but no more than a share of the
/// last-level cache of a large server that it may be a part of.
double measure_copy_bandwidth(Workers& workers, int64_t cache_bytes);

}  // namespace nalab
