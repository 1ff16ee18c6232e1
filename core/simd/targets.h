// The instruction sets that kernel sources are compiled for, in Highway's terms, and the choice of a function among
// them. To be included before any header of Highway.
//
// A kernel source compiles itself once per target (hwy/foreach_target.h), each time inside a target region: never with
// per-file -m flags, which leak into inline library code and crash older CPUs. Isa::avx512bf16 shares the AVX3 target
// of Highway 1.0.3, which knows no native bf16 dot product; kernels that use it say so.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

#include <type_traits>

#include "core/simd/isa.h"

namespace nalab::simd {

/// The function compiled for the greatest instruction set up to `isa`; avx2 and avx512 are null on other architectures.
template <class Function>
Function* select(Isa isa, Function* baseline, std::type_identity_t<Function>* avx2,
                 std::type_identity_t<Function>* avx512) {
  if (isa >= Isa::avx512 && avx512 != nullptr) return avx512;
  if (isa >= Isa::avx2 && avx2 != nullptr) return avx2;
  return baseline;
}

}  // namespace nalab::simd

/// Within HWY_ONCE, in the namespace that holds the targets' namespaces.
#define NALAB_SELECT(isa, FUNCTION) \
  ::nalab::simd::select((isa), &HWY_STATIC_DISPATCH(FUNCTION), HWY_CHOOSE_AVX2(FUNCTION), HWY_CHOOSE_AVX3(FUNCTION))
