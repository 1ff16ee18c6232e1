// Rows of queries to lanes, and lanes back to rows.
#include <cstdint>
#include <type_traits>

#include "core/simd/convert-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_TILE_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_TRANSPOSE_INL_H_
#undef NALAB_CORE_KERNELS_TILE_TRANSPOSE_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_TRANSPOSE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

using FourFloats = hn::FixedTag<float, 4>;

/// A vector of D whose i-th group of four lanes is loaded from row[4 * i] + offset, whatever the 16 bytes hold.
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadCellGroups(D d, const T* const* row, int64_t offset) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return hn::LoadU(d, reinterpret_cast<const float*>(row[0] + offset));
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, LoadCellGroups(half, row + hn::MaxLanes(half), offset), LoadCellGroups(half, row, offset));
  }
}
template <class D>
HWY_INLINE hn::Vec<D> LoadGroups(D d, const float* const* row, int64_t offset) {
  return LoadCellGroups(d, row, offset);
}

/// The same of the bits of rows of bf16 or f16.
template <class D16, class T>
HWY_INLINE hn::Vec<D16> LoadHalfGroups(D16 d, const T* const* row, int64_t offset) {
  if constexpr (hn::MaxLanes(D16()) <= 4) {
    return hn::LoadU(d, reinterpret_cast<const uint16_t*>(row[0] + offset));
  } else {
    const hn::Half<D16> half;
    return hn::Combine(d, LoadHalfGroups(half, row + hn::MaxLanes(half), offset), LoadHalfGroups(half, row, offset));
  }
}
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadGroups(D d, const T* const* row, int64_t offset) {
  return simd::HWY_NAMESPACE::Widen<T>(d, LoadHalfGroups(simd::HWY_NAMESPACE::HalfBits<D>(), row, offset));
}

/// The reverse of LoadGroups.
template <class D>
HWY_INLINE void StoreGroups(D d, hn::Vec<D> v, float* const* row, int64_t offset) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    hn::StoreU(v, d, row[0] + offset);
  } else {
    const hn::Half<D> half;
    StoreGroups(half, hn::LowerHalf(half, v), row, offset);
    StoreGroups(half, hn::UpperHalf(half, v), row + hn::MaxLanes(half), offset);
  }
}

/// Transposes the 4x4 matrices that the i-th groups of four lanes of the four vectors form.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void TransposeGroups(D d, V (&v)[4]) {
  const hn::RepartitionToWide<D> wide;
  const auto low01 = hn::BitCast(wide, hn::InterleaveLower(d, v[0], v[1]));
  const auto low23 = hn::BitCast(wide, hn::InterleaveLower(d, v[2], v[3]));
  const auto high01 = hn::BitCast(wide, hn::InterleaveUpper(d, v[0], v[1]));
  const auto high23 = hn::BitCast(wide, hn::InterleaveUpper(d, v[2], v[3]));
  v[0] = hn::BitCast(d, hn::InterleaveLower(wide, low01, low23));
  v[1] = hn::BitCast(d, hn::InterleaveUpper(wide, low01, low23));
  v[2] = hn::BitCast(d, hn::InterleaveLower(wide, high01, high23));
  v[3] = hn::BitCast(d, hn::InterleaveUpper(wide, high01, high23));
}

#endif

/// lanes[c * pitch + i] = row[i][c] for c in [0, dim), with vectors of at most `Lanes` lanes; times `factor`, if one is
/// given.
template <int Lanes, class T, class... Factor>
HWY_INLINE void RowsToLanes(const T* const* row, int64_t dim, float* HWY_RESTRICT lanes, int64_t pitch = Lanes,
                            Factor... factor) {
  int64_t c = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<float, Lanes> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(d));
  if constexpr (kLanes >= 4) {
    const auto scaled = [&](V v) HWY_ATTR { return (v * ... * hn::Set(d, factor)); };
    if constexpr (std::is_same_v<T, bf16>) {
      // Pairs of channels are transposed as cells: half the loads and half the transpositions.
      const hn::RebindToUnsigned<decltype(d)> dc;
      const auto upper = hn::Set(dc, 0xFFFF0000u);
      for (; c + 8 <= dim; c += 8) {
        for (int first = 0; first < Lanes; first += kLanes) {
          V v[4];
          for (int j = 0; j < 4; ++j) v[j] = LoadCellGroups(d, row + first + j, c);
          TransposeGroups(d, v);
          for (int j = 0; j < 4; ++j) {
            const auto pair = hn::BitCast(dc, v[j]);
            float* const target = lanes + (c + 2 * j) * pitch + first;
            hn::Store(scaled(hn::BitCast(d, hn::ShiftLeft<16>(pair))), d, target);
            hn::Store(scaled(hn::BitCast(d, hn::And(pair, upper))), d, target + pitch);
          }
        }
      }
    }
    for (; c + 4 <= dim; c += 4) {
      for (int first = 0; first < Lanes; first += kLanes) {
        // Vector j takes rows j, j + 4, ...: after the transposition lanes are in the order of rows.
        V v[4];
        for (int j = 0; j < 4; ++j) v[j] = LoadGroups(d, row + first + j, c);
        TransposeGroups(d, v);
        for (int j = 0; j < 4; ++j) hn::Store(scaled(v[j]), d, lanes + (c + j) * pitch + first);
      }
    }
  }
#endif
  for (; c < dim; ++c) {
    for (int i = 0; i < Lanes; ++i) lanes[c * pitch + i] = (to_float(row[i][c]) * ... * factor);
  }
}

/// row[i][c] = factors[i] * lanes[c][i] for c in [0, dim).
template <int Lanes>
HWY_INLINE void LanesToRows(const float* HWY_RESTRICT lanes, int64_t dim, const float* factors, float* const* row) {
  int64_t c = 0;
#if HWY_TARGET != HWY_SCALAR
  const simd::HWY_NAMESPACE::Floats d;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(d));
  for (; c + 4 <= dim; c += 4) {
    for (int first = 0; first < Lanes; first += kLanes) {
      const auto factor = hn::Load(d, factors + first);
      hn::Vec<decltype(d)> v[4];
      for (int j = 0; j < 4; ++j) v[j] = hn::Mul(hn::Load(d, lanes + (c + j) * Lanes + first), factor);
      TransposeGroups(d, v);
      for (int j = 0; j < 4; ++j) StoreGroups(d, v[j], row + first + j, c);
    }
  }
#endif
  for (; c < dim; ++c) {
    for (int i = 0; i < Lanes; ++i) row[i][c] = factors[i] * lanes[c * Lanes + i];
  }
}

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_TILE_TRANSPOSE_INL_H_
