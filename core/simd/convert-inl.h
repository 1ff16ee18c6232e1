// Loads of every element type as vectors of float.
#include <cstdint>

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

inline VF HWY_ATTR LoadFloats(Floats d, const float* p) { return hn::LoadU(d, p); }
inline VF HWY_ATTR LoadFloats(Floats d, const bf16* p) {
  const hn::Rebind<hwy::bfloat16_t, Floats> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::bfloat16_t*>(p)));
}
// Not by Highway's PromoteTo, which without F16C takes NaN and infinity for ordinary numbers.
inline VF HWY_ATTR LoadFloats(Floats d, const f16* p) {
#if HWY_TARGET <= HWY_AVX2
  const hn::Rebind<hwy::float16_t, Floats> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#else
  const hn::RebindToUnsigned<Floats> du;
  const hn::Rebind<uint16_t, Floats> d16;
  const auto bits = hn::PromoteTo(du, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)));
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7FFFu));
  const auto sign = hn::ShiftLeft<16>(hn::Xor(bits, magnitude));
  // The exponent's bias is 112 less; exact for subnormals too.
  const auto finite = hn::BitCast(du, hn::Mul(hn::BitCast(d, hn::ShiftLeft<13>(magnitude)), hn::Set(d, 0x1p112f)));
  const auto special = hn::VecFromMask(du, hn::Gt(magnitude, hn::Set(du, 0x7BFFu)));
  return hn::BitCast(d, hn::Or(hn::Or(finite, sign), hn::And(special, hn::Set(du, 0x7F800000u))));
#endif
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

}  // namespace nalab::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_SIMD_CONVERT_INL_H_
