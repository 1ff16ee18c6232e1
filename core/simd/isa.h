// The instruction sets that kernels are compiled for, as features of a CPU, and the limit on them at run time.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace nalab {

/// A set of instructions beyond what the compiler targets by default. A set of features is a mask: none of them is
/// taken to imply another.
class CpuFeatures {
 public:
  constexpr CpuFeatures() = default;
  /// Whether all features of another set are in this one.
  constexpr bool contains(CpuFeatures other) const { return (other.bits_ & ~bits_) == 0; }
  constexpr CpuFeatures operator|(CpuFeatures other) const { return CpuFeatures(bits_ | other.bits_); }
  constexpr CpuFeatures operator&(CpuFeatures other) const { return CpuFeatures(bits_ & other.bits_); }
  constexpr bool operator==(const CpuFeatures&) const = default;

  static constexpr CpuFeatures avx2() { return CpuFeatures(1); }        ///< AVX2, FMA, F16C
  static constexpr CpuFeatures avx512() { return CpuFeatures(2); }      ///< AVX-512 F, VL, DQ, BW
  static constexpr CpuFeatures avx512bf16() { return CpuFeatures(4); }  ///< AVX512_BF16: dot products of bf16 pairs
  static constexpr CpuFeatures amx() { return CpuFeatures(8); }         ///< AMX-TILE, AMX-BF16

 private:
  explicit constexpr CpuFeatures(uint32_t bits) : bits_(bits) {}
  uint32_t bits_ = 0;
};

/// A limit on the features that kernels may use. Which arithmetic they use within it is chosen from a table
/// (core/simd/arithmetic.h).
enum class Isa : uint8_t {
  baseline,    ///< what the compiler targets by default; on x86-64 plain scalar code, slow but right (Highway has no
               ///< SSE2)
  avx2,        ///< AVX2
  avx512,      ///< and AVX-512
  avx512bf16,  ///< and AVX512_BF16
  amx,         ///< and AMX: products of tiles of bf16
};

/// All limits; each allows at least what those before it do.
std::span<const Isa> all_isas();
/// "baseline", "avx2", "avx512", "avx512bf16", "amx"
std::string_view name(Isa isa);
/// What kernels may use.
CpuFeatures features(Isa isa);
/// What this CPU (and operating system) can run.
CpuFeatures cpu_features();
/// Whether this CPU can run all that a limit allows.
bool cpu_supports(Isa isa);
/// The limit that allows the most of those that this CPU supports.
Isa best_isa();
/// The limit of a name. Throws Error for an unknown name and for one that this CPU lacks.
Isa parse_isa(std::string_view text);
/// The one to use: NALAB_ISA if set (throws Error as parse_isa does), else best_isa().
Isa choose_isa();

}  // namespace nalab
