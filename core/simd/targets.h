// The instruction sets that kernel sources are compiled for, in Highway's terms, and the choice of a function among
// them. To be included before any header of Highway.
//
// A kernel source compiles itself once per target (hwy/foreach_target.h), each time inside a target region: never with
// per-file -m flags, which leak into inline library code and crash older CPUs. Features that Highway 1.0.3 has no
// target for (AVX512_BF16) share the AVX3 target; functions that use them say so.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#include <type_traits>

#include "core/simd/isa.h"

namespace nalab::simd {

/// The function compiled for the widest target that `isa` allows; avx2 and avx512 are null on other architectures.
template <class Function>
Function* select(Isa isa, Function* baseline, std::type_identity_t<Function>* avx2,
                 std::type_identity_t<Function>* avx512) {
  const CpuFeatures allowed = features(isa);
  if (avx512 != nullptr && allowed.contains(CpuFeatures::avx512())) return avx512;
  if (avx2 != nullptr && allowed.contains(CpuFeatures::avx2())) return avx2;
  return baseline;
}

}  // namespace nalab::simd

/// Within HWY_ONCE, in the namespace that holds the targets' namespaces.
#define NALAB_SELECT(isa, FUNCTION) \
  ::nalab::simd::select((isa), &HWY_STATIC_DISPATCH(FUNCTION), HWY_CHOOSE_AVX2(FUNCTION), HWY_CHOOSE_AVX3(FUNCTION))
