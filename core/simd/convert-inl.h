// Loads and stores of every element type as vectors of float.
#include <cstdint>
#include <type_traits>

#include "core/simd/targets.h"
#include "core/tensor/element.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_SIMD_CONVERT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_SIMD_CONVERT_INL_H_
#undef NALAB_CORE_SIMD_CONVERT_INL_H_
#else
#define NALAB_CORE_SIMD_CONVERT_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::simd::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using VF = hn::Vec<Floats>;

/// The 16 bits of bf16 or f16 for each lane of D.
template <class D>
using HalfBits = hn::Rebind<uint16_t, D>;

/// Their numbers.
template <class T, class D>
HWY_INLINE hn::Vec<D> Widen(D d, hn::Vec<HalfBits<D>> half) {
  const hn::RebindToUnsigned<D> du;
  if constexpr (std::is_same_v<T, bf16>) {
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, half)));
  } else {
#if HWY_TARGET <= HWY_AVX2
    return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), half));
#else
    // Not by Highway's PromoteTo, which without F16C takes NaN and infinity for ordinary numbers.
    const auto bits = hn::PromoteTo(du, half);
    const auto magnitude = hn::And(bits, hn::Set(du, 0x7FFFu));
    const auto sign = hn::ShiftLeft<16>(hn::Xor(bits, magnitude));
    // The exponent's bias is 112 less; exact for subnormals too.
    const auto finite = hn::BitCast(du, hn::Mul(hn::BitCast(d, hn::ShiftLeft<13>(magnitude)), hn::Set(d, 0x1p112f)));
    const auto special = hn::VecFromMask(du, hn::Gt(magnitude, hn::Set(du, 0x7BFFu)));
    return hn::BitCast(d, hn::Or(hn::Or(finite, sign), hn::And(special, hn::Set(du, 0x7F800000u))));
#endif
  }
}

inline VF HWY_ATTR LoadFloats(Floats d, const float* p) { return hn::LoadU(d, p); }
template <class T>
HWY_INLINE VF LoadFloats(Floats d, const T* p) {
  return Widen<T>(d, hn::LoadU(HalfBits<Floats>(), reinterpret_cast<const uint16_t*>(p)));
}

/// Rounds to the nearest number of T, ties to even, as from_float<T>(), and stores.
template <class T>
HWY_INLINE void StoreFloats([[maybe_unused]] Floats d, VF v, T* p) {
  const HalfBits<Floats> d16;
  auto* const bits = reinterpret_cast<uint16_t*>(p);
  if constexpr (std::is_same_v<T, bf16>) {
    const hn::RebindToUnsigned<Floats> du;
    const auto u = hn::BitCast(du, v), high = hn::ShiftRight<16>(u);
    const auto odd = hn::And(high, hn::Set(du, 1u));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(u, hn::Set(du, 0x7FFFu)), odd));
    const auto quiet = hn::Or(high, hn::Set(du, 0x0040u));
    const auto result = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(hn::RebindToSigned<Floats>(), result)), d16, bits);
  } else {
#if HWY_TARGET <= HWY_AVX2
    hn::StoreU(hn::BitCast(d16, hn::DemoteTo(hn::Rebind<hwy::float16_t, Floats>(), v)), d16, bits);
#else
    HWY_ALIGN float lanes[hn::MaxLanes(Floats())];
    hn::Store(v, d, lanes);
    for (std::size_t i = 0; i < hn::Lanes(d); ++i) p[i] = from_float<T>(lanes[i]);
#endif
  }
}

/// target[c] = x[c] as float.
template <class T>
HWY_INLINE void CopyToFloats(const T* x, int64_t n, float* target) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= n; c += lanes) hn::StoreU(LoadFloats(d, x + c), d, target + c);
  for (; c < n; ++c) target[c] = to_float(x[c]);
}

/// target[c] = x[c], rounded.
template <class T>
HWY_INLINE void CopyFromFloats(const float* x, int64_t n, T* target) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= n; c += lanes) StoreFloats(d, hn::LoadU(d, x + c), target + c);
  for (; c < n; ++c) target[c] = from_float<T>(x[c]);
}

}  // namespace nalab::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_SIMD_CONVERT_INL_H_
