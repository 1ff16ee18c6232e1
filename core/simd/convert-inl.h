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

/// Rounds to the nearest number of T, ties to even, as from_float<T>().
template <class T>
HWY_INLINE hn::Vec<HalfBits<Floats>> Narrow([[maybe_unused]] Floats d, VF v) {
  const HalfBits<Floats> d16;
  if constexpr (std::is_same_v<T, bf16>) {
    const hn::RebindToUnsigned<Floats> du;
    const auto u = hn::BitCast(du, v), high = hn::ShiftRight<16>(u);
    const auto odd = hn::And(high, hn::Set(du, 1u));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(u, hn::Set(du, 0x7FFFu)), odd));
    const auto quiet = hn::Or(high, hn::Set(du, 0x0040u));
    const auto result = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
    return hn::DemoteTo(d16, hn::BitCast(hn::RebindToSigned<Floats>(), result));
  } else {
#if HWY_TARGET <= HWY_AVX2
    return hn::BitCast(d16, hn::DemoteTo(hn::Rebind<hwy::float16_t, Floats>(), v));
#else
    HWY_ALIGN float lanes[hn::MaxLanes(Floats())];
    HWY_ALIGN uint16_t bits[hn::MaxLanes(Floats())];
    hn::Store(v, d, lanes);
    for (std::size_t i = 0; i < hn::Lanes(d); ++i) bits[i] = from_float<T>(lanes[i]).bits;
    return hn::Load(d16, bits);
#endif
  }
}

template <class T>
HWY_INLINE void StoreFloats(Floats d, VF v, T* p) {
  hn::StoreU(Narrow<T>(d, v), HalfBits<Floats>(), reinterpret_cast<uint16_t*>(p));
}

#if HWY_TARGET == HWY_AVX3

/// The first n elements of a vector of 16 bits at p, n less than its lanes, and zeros: nothing beyond them is read. By
/// Highway 1.0.3 such a load is of a whole vector.
template <class D16>
HWY_INLINE hn::Vec<D16> LoadSome(D16 /*d*/, const void* p, int64_t n) {
  const auto mask = static_cast<__mmask16>((1u << n) - 1);
  if constexpr (hn::MaxLanes(D16()) == 16) {
    return hn::Vec<D16>{_mm256_maskz_loadu_epi16(mask, p)};
  } else {
    return hn::Vec<D16>{_mm_maskz_loadu_epi16(static_cast<__mmask8>(mask), p)};
  }
}

/// The same of floats.
inline VF HWY_ATTR LoadSomeFloats(Floats d, const float* p, int64_t n) {
  return hn::MaskedLoad(hn::FirstN(d, static_cast<std::size_t>(n)), d, p);
}
template <class T>
HWY_INLINE VF LoadSomeFloats(Floats d, const T* p, int64_t n) {
  return Widen<T>(d, LoadSome(HalfBits<Floats>(), p, n));
}

#endif

/// target[c] = x[c] as float.
template <class T>
HWY_INLINE void CopyToFloats(const T* x, int64_t n, float* target) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= n; c += lanes) hn::StoreU(LoadFloats(d, x + c), d, target + c);
#if HWY_TARGET == HWY_AVX3
  if (c == n) return;
  hn::BlendedStore(LoadSomeFloats(d, x + c, n - c), hn::FirstN(d, static_cast<std::size_t>(n - c)), d, target + c);
#else
  for (; c < n; ++c) target[c] = to_float(x[c]);
#endif
}

/// target[c] = x[c], rounded.
template <class T>
HWY_INLINE void CopyFromFloats(const float* x, int64_t n, T* target) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= n; c += lanes) StoreFloats(d, hn::LoadU(d, x + c), target + c);
#if HWY_TARGET == HWY_AVX3
  if (c == n) return;
  const auto mask = static_cast<__mmask16>((1u << (n - c)) - 1);
  _mm256_mask_storeu_epi16(target + c, mask, Narrow<T>(d, LoadSomeFloats(d, x + c, n - c)).raw);
#else
  for (; c < n; ++c) target[c] = from_float<T>(x[c]);
#endif
}

}  // namespace nalab::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_SIMD_CONVERT_INL_H_
