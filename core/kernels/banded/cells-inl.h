// What the lanes of banded's products hold: cells of 32 bits, which are floats or pairs of bf16.
//
// Queries and keys on lanes have a channel in a cell, or two neighbours. Rows of values have a channel of one row of
// keys in a cell, or of two rows of keys, numbers 2 n and 2 n + 1 along the middle axis; so have their weights. Windows
// are the same in both, so that nothing else differs: a window of 7 rows meets 4 pairs, and the half of a pair that is
// beyond the window counts as zero.
#include <algorithm>
#include <cstdint>

#include "core/geometry/axis.h"
#include "core/kernels/tile/transpose-inl.h"
#include "core/kernels/tile/unit_numbers-inl.h"
#include "core/simd/convert-inl.h"
#include "core/simd/exp-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_BANDED_CELLS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_CELLS_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_CELLS_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_CELLS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using simd::HWY_NAMESPACE::Floats;
using simd::HWY_NAMESPACE::VF;
using Cells = hn::RebindToUnsigned<Floats>;

/// Queries of a strip.
inline constexpr int kLanes = static_cast<int>(hn::MaxLanes(Floats()));

/// A float in each cell: f32_fma.
struct FloatCells {
  /// Elements of a cell, and the bits of their signs.
  static constexpr int kElements = 1;
  static constexpr uint32_t kSigns = 0x80000000u;

  /// sum + a * b, or the sum of both products.
  static HWY_INLINE VF MultiplyAdd(VF a, VF b, VF sum) { return hn::MulAdd(a, b, sum); }
  /// Weights.
  static HWY_INLINE VF Exp2NonPositive(VF x) { return simd::HWY_NAMESPACE::Exp2NonPositive(Floats(), x); }

  /// lanes[c * pitch + i] = cell c of row i.
  template <int Lanes, class T>
  static HWY_INLINE void RowsToLanes(const T* const* row, int64_t dim, float* lanes, int64_t pitch) {
    tile::HWY_NAMESPACE::RowsToLanes<Lanes>(row, dim, lanes, pitch);
  }
  /// A row of cells, of a channel of the first row.
  template <class T>
  static HWY_INLINE void CopyRows(const T* row, const T* /*second*/, int64_t dim, float* cells) {
    simd::HWY_NAMESPACE::CopyToFloats(row, dim, cells);
  }
};

#if HWY_TARGET == HWY_AVX3

using simd::HWY_NAMESPACE::LoadSome;

/// The first `count` of eight elements of rows 0, 4, ... from an offset on, and zeros.
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadSomeCellGroups(D d, const T* const* row, int64_t offset, int64_t count) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return hn::BitCast(d, LoadSome(hn::Repartition<uint16_t, D>(), row[0] + offset, count));
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, LoadSomeCellGroups(half, row + hn::MaxLanes(half), offset, count),
                       LoadSomeCellGroups(half, row, offset, count));
  }
}

/// lanes[c * pitch + i] = elements 2 c and 2 c + 1 of row i as a cell, with a zero beyond an odd dim; `Lanes` is a
/// vector or half of one.
template <int Lanes>
HWY_INLINE void PairsToLanes(const bf16* const* row, int64_t dim, float* HWY_RESTRICT lanes, int64_t pitch) {
  const hn::CappedTag<float, Lanes> d;
  hn::Vec<decltype(d)> v[4];
  int64_t c = 0;
  for (; c + 8 <= dim; c += 8, lanes += 4 * pitch) {
    for (int j = 0; j < 4; ++j) v[j] = tile::HWY_NAMESPACE::LoadCellGroups(d, row + j, c);
    tile::HWY_NAMESPACE::TransposeGroups(d, v);
    for (int j = 0; j < 4; ++j) hn::Store(v[j], d, lanes + j * pitch);
  }
  if (c == dim) return;
  for (int j = 0; j < 4; ++j) v[j] = LoadSomeCellGroups(d, row + j, c, dim - c);
  tile::HWY_NAMESPACE::TransposeGroups(d, v);
  for (int j = 0; 2 * j < dim - c; ++j) hn::Store(v[j], d, lanes + j * pitch);
}

/// Two bf16 in each cell: bf16_dot.
struct PairCells {
  static constexpr int kElements = 2;
  static constexpr uint32_t kSigns = 0x80008000u;

  static HWY_INLINE VF MultiplyAdd(VF a, VF b, VF sum) {
    // By assembly: a function for CPUs that have AVX512_BF16 would not be inlined into those for all with AVX-512.
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
    return sum;
  }
  static HWY_INLINE VF Exp2NonPositive(VF x) { return simd::HWY_NAMESPACE::Exp2<false>(Floats(), x); }

  template <int Lanes>
  static HWY_INLINE void RowsToLanes(const bf16* const* row, int64_t dim, float* lanes, int64_t pitch) {
    banded::HWY_NAMESPACE::PairsToLanes<Lanes>(row, dim, lanes, pitch);
  }
  /// Of a channel of both rows; zeros stand for a second one that is null.
  static HWY_INLINE void CopyRows(const bf16* row, const bf16* second, int64_t dim, float* cells) {
    const Cells d;
    const hn::Rebind<uint16_t, Floats> d16;
    const auto store = [&](int64_t c, const auto& load) HWY_ATTR {
      auto pairs = hn::PromoteTo(d, load(row + c));
      if (second != nullptr) pairs = hn::Or(pairs, hn::ShiftLeft<16>(hn::PromoteTo(d, load(second + c))));
      hn::StoreU(hn::BitCast(Floats(), pairs), Floats(), cells + c);
    };
    int64_t c = 0;
    for (; c + kLanes <= dim; c += kLanes) {
      store(c, [&](const bf16* p) HWY_ATTR { return hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)); });
    }
    if (c == dim) return;
    store(c, [&](const bf16* p) HWY_ATTR { return LoadSome(d16, p, dim - c); });
  }
  /// Weights of two rows of keys, rounded.
  static HWY_INLINE void StorePairs(VF low, VF high, float* cells) {
    tile::HWY_NAMESPACE::StorePairs<1>(low, high, cells, 0);
  }
};

#endif

/// Cells of so many elements.
template <class A>
constexpr int64_t CellsOf(int64_t elements) {
  return geometry::ceil_div(elements, A::kElements);
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_CELLS_INL_H_
