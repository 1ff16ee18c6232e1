// Numbers as a matrix unit (AMX) multiplies them: which are within its range, how they are cut into parts, rows in
// steps of its inner dimension, pairs of bf16.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/kernels/tile/tile_arithmetic-inl.h"
#include "core/kernels/tile/transpose-inl.h"
#include "core/simd/matrix_unit-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_TILE_UNIT_NUMBERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_UNIT_NUMBERS_INL_H_
#undef NALAB_CORE_KERNELS_TILE_UNIT_NUMBERS_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_UNIT_NUMBERS_INL_H_
#endif

#ifndef NALAB_CORE_KERNELS_TILE_UNIT_NUMBERS_ONCE
#define NALAB_CORE_KERNELS_TILE_UNIT_NUMBERS_ONCE

namespace nalab::tile {

/// Parts of two operands whose product counts.
struct PartProduct {
  int a, b;
};

/// The products of numbers in `Parts` parts, small ones first.
template <int Parts>
inline constexpr std::array<PartProduct, 1> kPartProducts{{{0, 0}}};
template <>
inline constexpr std::array<PartProduct, 6> kPartProducts<3>{{{0, 2}, {2, 0}, {1, 1}, {1, 0}, {0, 1}, {0, 0}}};

using simd::kUnitCells;
using simd::kUnitRows;

/// Elements of a row, in whole steps of the inner dimension of a tile.
inline constexpr int64_t kUnitStep = 2 * kUnitCells;
inline constexpr int64_t unit_steps(int64_t n) { return (n + kUnitStep - 1) / kUnitStep; }

}  // namespace nalab::tile

#endif  // NALAB_CORE_KERNELS_TILE_UNIT_NUMBERS_ONCE

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

using simd::HWY_NAMESPACE::EmulatedUnit;
#if HWY_TARGET == HWY_AVX3
using simd::HWY_NAMESPACE::AmxUnit;
using simd::HWY_NAMESPACE::DotUnit;
#endif
using Halves = hn::ScalableTag<uint16_t>;
using UnitCells = hn::RebindToUnsigned<Floats>;

/// Whether numbers are zero or within a range in which no product of two and no sum of such products overflows, and
/// none that matters is subnormal, which the unit takes as zero, the gradients of scores included: up to 2^58, and from
/// 2^-50, or from 2^-44 if parts of numbers are multiplied. Looks at the upper halves of floats.
template <int Parts>
class RangeCheck {
  static constexpr uint16_t upper_half(float x) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16); }

 public:
  static constexpr float kLeast = Parts == 1 ? 0x1p-50f : 0x1p-44f, kEnd = 0x1p58f;

  RangeCheck() : least_(hn::Set(Halves(), uint16_t{0xFFFF})), greatest_(hn::Zero(Halves())) {}

  HWY_INLINE void Add(hn::Vec<Halves> x) {
    const Halves d;
    const auto magnitude = hn::And(x, hn::Set(d, uint16_t{0x7FFF}));
    greatest_ = hn::Max(greatest_, magnitude);
    least_ = hn::Min(least_, hn::Sub(magnitude, hn::Set(d, uint16_t{1})));  // zero becomes the greatest
  }
  /// Floats. Their lower halves are no numbers, and count as zero.
  HWY_INLINE void Add(VF x) {
    // A float that is not zero is not taken for one because its upper half is.
    const UnitCells dc;
    const auto bits = hn::BitCast(dc, x);
    const auto some = hn::IfThenZeroElse(hn::Eq(hn::ShiftLeft<1>(bits), hn::Zero(dc)), hn::Set(dc, 0x10000u));
    Add(hn::BitCast(Halves(), hn::And(hn::Or(bits, some), hn::Set(dc, 0xFFFF0000u))));
  }
  HWY_INLINE bool Holds() const {
    const Halves d;
    const auto below = hn::Lt(least_, hn::Set(d, static_cast<uint16_t>(upper_half(kLeast) - 1)));
    const auto above = hn::Gt(greatest_, hn::Set(d, static_cast<uint16_t>(upper_half(kEnd) - 1)));
    return hn::AllFalse(d, hn::Or(below, above));
  }

 private:
  hn::Vec<Halves> least_, greatest_;
};

/// Cuts numbers into their parts of 16 bits, in the upper halves of cells.
template <int Parts>
HWY_INLINE void CutIntoParts(VF x, hn::Vec<UnitCells> (&part)[Parts]) {
  const UnitCells dc;
  const Floats d;
#pragma GCC unroll 3
  for (int i = 0; i < Parts; ++i) {
    part[i] = hn::BitCast(dc, x);
    if constexpr (Parts > 1) {
      // Halves away from zero: as good as to even, and cheaper.
      part[i] = hn::And(hn::Add(part[i], hn::Set(dc, 0x8000u)), hn::Set(dc, 0xFFFF0000u));
      x = hn::Sub(x, hn::BitCast(d, part[i]));
    }
  }
}

/// The first n of a vector's elements at p, and zeros.
template <class D, class T>
HWY_INLINE const T* Padded(D, const T* p, int64_t n, T* memory) {
  constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(D()));
  if (n >= kStep) return p;
  std::fill(std::copy_n(p, std::max<int64_t>(n, 0), memory), memory + kStep, T{});
  return memory;
}

/// The first n of 32 numbers of a row in parts, part_step elements apart, filled up with zeros.
template <int Parts, class T>
HWY_INLINE void PackStep(const T* row, int64_t n, uint16_t* target, int64_t part_step, RangeCheck<Parts>& check) {
  if constexpr (Parts == 1 && std::is_same_v<T, bf16>) {
    const Halves d16;
    constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(Halves()));
    const auto* const bits = reinterpret_cast<const uint16_t*>(row);
    HWY_ALIGN uint16_t rest[kStep];
    for (int64_t c = 0; c < kUnitStep; c += kStep) {
      const auto x = hn::LoadU(d16, Padded(d16, bits + c, n - c, rest));
      check.Add(x);
      hn::StoreU(x, d16, target + c);
    }
  } else {
    const hn::Rebind<uint16_t, Floats> d16;
    const hn::RebindToSigned<Floats> di;
    constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(Floats()));
    HWY_ALIGN T rest[kStep];
    for (int64_t c = 0; c < kUnitStep; c += kStep) {
      const VF x = simd::HWY_NAMESPACE::LoadFloats(Floats(), Padded(Floats(), row + c, n - c, rest));
      check.Add(x);
      hn::Vec<UnitCells> part[Parts];
      CutIntoParts<Parts>(x, part);
#pragma GCC unroll 3
      for (int i = 0; i < Parts; ++i) {
        HWY_ALIGN uint16_t halves[kStep];
        hn::Store(hn::DemoteTo(d16, hn::BitCast(di, hn::ShiftRight<16>(part[i]))), d16, halves);
        std::memcpy(target + i * part_step + c, halves, sizeof halves);  // read as cells too
      }
    }
  }
}

/// A row of numbers in parts, cut into steps of 32 numbers, `step` elements apart and filled up with zeros.
template <int Parts, class T>
HWY_INLINE void PackParts(const T* row, int64_t dim, uint16_t* target, int64_t step, int64_t part_step,
                          RangeCheck<Parts>& check) {
  for (; dim >= kUnitStep; dim -= kUnitStep, row += kUnitStep, target += step) {
    PackStep(row, kUnitStep, target, part_step, check);
  }
  if (dim > 0) PackStep(row, dim, target, part_step, check);
}

/// `count` rows of numbers, row_step apart, each as PackParts does it, target_step elements apart. Returns whether all
/// numbers are in range. A function of its own, whose loops have registers enough.
template <int Parts, class T>
HWY_NOINLINE bool PackPartsOfRows(const T* rows, int64_t row_step, int64_t count, int64_t dim, uint16_t* target,
                                  int64_t target_step, int64_t step, int64_t part_step) {
  RangeCheck<Parts> check;
  for (; count > 0; --count, rows += row_step, target += target_step) {
    PackParts(rows, dim, target, step, part_step, check);
  }
  return check.Holds();
}

/// Blocks of 8 elements of rows 0, 8, 16, ... at `row`, as far as a vector holds them.
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const uint16_t* row, int64_t step) {
  if constexpr (hn::MaxLanes(D()) <= 8) {
    return hn::LoadU(d, row);
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, LoadBlocks(half, row + hn::MaxLanes(half) * step, step), LoadBlocks(half, row, step));
  }
}

/// Columns of 32 rows of elements: target[c][n] = rows[n][c] for c in [0, 8), with 32 elements a row of the target.
HWY_INLINE void TransposeEightColumns(const uint16_t* rows, int64_t step, uint16_t* target) {
  constexpr int kColumns = 8;
  const Halves d16;
  const hn::RepartitionToWide<Halves> d32;
  const hn::RepartitionToWide<decltype(d32)> d64;
  constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(Halves()));
  for (int64_t first = 0; first < kUnitStep; first += kLanes) {
    hn::Vec<Halves> row[kColumns];
#pragma GCC unroll 8
    for (int j = 0; j < kColumns; ++j) row[j] = LoadBlocks(d16, rows + (first + j) * step, step);
    hn::Vec<decltype(d32)> pairs[kColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; j += 2) {
      pairs[j] = hn::BitCast(d32, hn::InterleaveLower(d16, row[j], row[j + 1]));
      pairs[j + 1] = hn::BitCast(d32, hn::InterleaveUpper(d16, row[j], row[j + 1]));
    }
    hn::Vec<decltype(d64)> fours[kColumns];  // columns 2 j and 2 j + 1 of rows 0 to 3; from 4 on of rows 4 to 7
#pragma GCC unroll 2
    for (int j = 0; j < kColumns; j += 4) {
      fours[j] = hn::BitCast(d64, hn::InterleaveLower(d32, pairs[j], pairs[j + 2]));
      fours[j + 1] = hn::BitCast(d64, hn::InterleaveUpper(d32, pairs[j], pairs[j + 2]));
      fours[j + 2] = hn::BitCast(d64, hn::InterleaveLower(d32, pairs[j + 1], pairs[j + 3]));
      fours[j + 3] = hn::BitCast(d64, hn::InterleaveUpper(d32, pairs[j + 1], pairs[j + 3]));
    }
#pragma GCC unroll 4
    for (int j = 0; j < kColumns / 2; ++j) {
      uint16_t* const to = target + 2 * j * kUnitStep + first;
      hn::StoreU(hn::BitCast(d16, hn::InterleaveLower(d64, fours[j], fours[j + 4])), d16, to);
      hn::StoreU(hn::BitCast(d16, hn::InterleaveUpper(d64, fours[j], fours[j + 4])), d16, to + kUnitStep);
    }
  }
}

/// Stores two vectors of weights, of two keys or two queries a lane, as pairs of bf16, their parts part_step cells
/// apart.
template <int Parts>
HWY_INLINE void StorePairs(VF even, VF odd, float* cells, int64_t part_step) {
  const UnitCells dc;
  const Floats d;
#pragma GCC unroll 3
  for (int i = 0; i < Parts; ++i) {
    const auto upper = hn::Set(dc, 0xFFFF0000u), half = hn::Set(dc, 0x8000u);
    const auto even_bits = hn::Add(hn::BitCast(dc, even), half), odd_bits = hn::Add(hn::BitCast(dc, odd), half);
    const auto pairs = hn::Or(hn::ShiftRight<16>(even_bits), hn::And(odd_bits, upper));
    hn::Store(hn::BitCast(d, pairs), d, cells + i * part_step);
    if (i + 1 < Parts) {
      even = hn::Sub(even, hn::BitCast(d, hn::And(even_bits, upper)));
      odd = hn::Sub(odd, hn::BitCast(d, hn::And(odd_bits, upper)));
    }
  }
}

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_TILE_UNIT_NUMBERS_INL_H_
