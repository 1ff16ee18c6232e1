// exp for softmax: arguments are scores less their maximum, hence at most zero.
//
// Highway's contrib Exp turns NaN into 0; here NaN must stay NaN, since a non-finite score has to reach the result.
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_SIMD_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_SIMD_EXP_INL_H_
#undef NALAB_CORE_SIMD_EXP_INL_H_
#else
#define NALAB_CORE_SIMD_EXP_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::simd::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Rounds to an integer and gives 2 to that power, for x in [-126, 0]; anything else gives some number.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V RoundAndPower(D d, V x, V& power) {
  // Added to 1.5 * 2^23, x is rounded to an integer that stands in the lowest bits; 127 more makes it an exponent
  // field.
  const V magic = hn::Set(d, 12582912.0f + 127.0f);
  const V shifted = hn::Add(x, magic);
  const hn::RebindToUnsigned<D> du;
  power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(du, shifted)));
  return hn::Sub(shifted, magic);
}

/// 2^x for x <= 0 or NaN, lanes of float. Relative error below 2e-7; zero below -126, where the result would leave the
/// normal range; 2^-infinity = 0 and 2^NaN = NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2NonPositive(D d, V x) {
  // x = n + r with |r| <= 1/2; the polynomial is the minimax approximation of 2^r, degree 5, exact at 0.
#if HWY_TARGET == HWY_AVX3
  // Highway 1.0.3 has neither instruction: r in one, and the power of 2, the zero below -126 included, in another.
  constexpr bool kScalef = hn::MaxLanes(D()) == 16;
#else
  constexpr bool kScalef = false;
#endif
  V power, r;
  if constexpr (kScalef) {
    r = V{_mm512_reduce_ps(x.raw, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  } else {
    r = hn::Sub(x, RoundAndPower(d, x, power));
  }
  V p = hn::Set(d, 1.326472719e-03f);
  p = hn::MulAdd(p, r, hn::Set(d, 9.671512642e-03f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.550733743e-02f));
  p = hn::MulAdd(p, r, hn::Set(d, 2.402224209e-01f));
  p = hn::MulAdd(p, r, hn::Set(d, 6.931469776e-01f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  if constexpr (kScalef) {
    const __mmask16 normal = _mm512_cmp_ps_mask(x.raw, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    return V{_mm512_maskz_scalef_ps(normal, p.raw, _mm512_sub_ps(x.raw, r.raw))};
  } else {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), hn::Mul(p, power));
  }
}

/// 2^x for x < 128 or NaN, whose relative error is below 2e-7 if kExact, else below 1.1e-4, and 0 for integers. Where
/// the result would be subnormal it may be zero; above 127 it is at least 2^127 or NaN.
template <bool kExact, class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(D d, V x) {
#if HWY_TARGET == HWY_AVX3
  constexpr bool kScalef = hn::MaxLanes(D()) == 16;
#else
  constexpr bool kScalef = false;
#endif
  V r, whole;  // x is the sum of both; kExact: |r| <= 1/2, else 0 <= r < 1
  if constexpr (kScalef) {
    constexpr int kRounding = (kExact ? _MM_FROUND_TO_NEAREST_INT : _MM_FROUND_TO_NEG_INF) | _MM_FROUND_NO_EXC;
    r = V{_mm512_reduce_ps(x.raw, kRounding)};
    whole = kExact ? hn::Sub(x, r) : x;  // scalef takes the floor
  } else {
    x = hn::Min(x, hn::Set(d, 127.0f));
    whole = kExact ? hn::Round(x) : hn::Floor(x);
    r = hn::Sub(x, whole);
  }
  V p;
  if constexpr (kExact) {
    p = hn::MulAdd(hn::Set(d, 1.326472719e-03f), r, hn::Set(d, 9.671512642e-03f));
    p = hn::MulAdd(p, r, hn::Set(d, 5.550733743e-02f));
    p = hn::MulAdd(p, r, hn::Set(d, 2.402224209e-01f));
    p = hn::MulAdd(p, r, hn::Set(d, 6.931469776e-01f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  } else {
    p = hn::MulAdd(hn::Set(d, 0.0782674694f), r, hn::Set(d, 0.226308357f));
    p = hn::MulAdd(p, r, hn::Set(d, 0.695424173f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  }
  if constexpr (kScalef) {
    return V{_mm512_maskz_scalef_ps(0xFFFF, p.raw, whole.raw)};
  } else {
    const hn::RebindToSigned<D> di;
    const auto exponent = hn::ConvertTo(di, hn::Max(whole, hn::Set(d, -126.0f)));
    const V power = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(exponent, hn::Set(di, 127))));
    return hn::IfThenZeroElse(hn::Lt(whole, hn::Set(d, -126.0f)), hn::Mul(p, power));
  }
}

/// e^x for x <= 0 or NaN: as Exp2NonPositive, zero below -87.3.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpNonPositive(D d, V x) {
  // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, so that n times the first is exact.
  V power;
  const V n = RoundAndPower(d, hn::Mul(x, hn::Set(d, 1.44269504088896341f)), power);
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  // Cephes expf: e^r = 1 + r + r^2 p(r), degree 5.
  V p = hn::Set(d, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::MulAdd(p, hn::Mul(r, r), hn::Add(r, hn::Set(d, 1.0f)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3f)), hn::Mul(p, power));
}

}  // namespace nalab::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_SIMD_EXP_INL_H_
