// The instruction sets that kernels are compiled for, and the choice among them at run time.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace nalab {

/// In ascending order; each one is a superset of those before it.
enum class Isa : uint8_t {
  baseline,    ///< what the compiler targets by default; on x86-64 plain scalar code, slow but right (Highway has no
               ///< SSE2)
  avx2,        ///< AVX2, FMA, F16C
  avx512,      ///< AVX-512 F, VL, DQ, BW
  avx512bf16,  ///< and AVX512_BF16: dot products of bfloat16 pairs
};

/// All instruction sets, ascending.
std::span<const Isa> all_isas();
/// "baseline", "avx2", "avx512", "avx512bf16"
std::string_view name(Isa isa);
/// Whether this CPU (and operating system) can run it.
bool cpu_supports(Isa isa);
/// The fastest one that this CPU supports: the greatest, but never avx512bf16 on Intel, where a bf16 dot product takes
/// longer than the float arithmetic in its place (measured on a fourth-generation Xeon: 71 against 144 GFLOP/s per
/// core).
Isa best_isa();
/// The instruction set of a name. Throws Error for an unknown name and for one that this CPU lacks.
Isa parse_isa(std::string_view text);
/// The one to use: NALAB_ISA where set (Error as of parse_isa), else best_isa().
Isa choose_isa();

}  // namespace nalab
