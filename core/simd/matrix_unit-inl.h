// The matrix unit that tile products are written for, and the same by dot products of vectors and in plain code.
//
// A unit holds eight tiles of 16 rows of 16 cells of 32 bits: floats in tiles 0 to 3, which are sums, and pairs of bf16
// in tiles 4 to 7, which are multiplied. Tiles are numbered when the program is compiled. Units are opened once per
// task, or per block of keys, and must be closed before the thread waits for others: what else runs on it then may set
// the unit up in its own way.
#include <cassert>
#include <cstdint>
#include <cstring>

#include "core/simd/convert-inl.h"
#include "core/simd/emulated_products.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if HWY_ARCH_X86
#include <immintrin.h>
#endif

#if defined(NALAB_CORE_SIMD_MATRIX_UNIT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_SIMD_MATRIX_UNIT_INL_H_
#undef NALAB_CORE_SIMD_MATRIX_UNIT_INL_H_
#else
#define NALAB_CORE_SIMD_MATRIX_UNIT_INL_H_
#endif

#ifndef NALAB_CORE_SIMD_MATRIX_UNIT_ONCE
#define NALAB_CORE_SIMD_MATRIX_UNIT_ONCE

namespace nalab::simd {

/// Rows of a tile, and cells of a row.
inline constexpr int kUnitRows = 16;
inline constexpr int kUnitCells = 16;

}  // namespace nalab::simd

#endif  // NALAB_CORE_SIMD_MATRIX_UNIT_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::simd::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3

/// AMX. By assembly, since the intrinsics of g++ 12 do not say that they read and write memory: what was packed could
/// be stored after it was loaded.
class AmxUnit {
 public:
  AmxUnit() {
    struct alignas(64) {
      uint8_t palette = 1;
      uint8_t start_row = 0;
      uint8_t reserved[14] = {};
      uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {kUnitRows, kUnitRows, kUnitRows, kUnitRows, kUnitRows, kUnitRows, kUnitRows, kUnitRows};
    } config;
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  ~AmxUnit() { asm volatile("tilerelease" : : : "memory"); }
  AmxUnit(const AmxUnit&) = delete;
  AmxUnit& operator=(const AmxUnit&) = delete;

  template <int kTile>
  HWY_INLINE void Zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  /// Rows are `step` cells apart.
  template <int kTile>
  HWY_INLINE void Load(const float* cells, int64_t step) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(cells), "r"(step * 4) : "memory");
  }
  /// The same of what is not read again soon.
  template <int kTile>
  HWY_INLINE void LoadOnce(const float* cells, int64_t step) {
    asm volatile("tileloaddt1 (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(cells), "r"(step * 4) : "memory");
  }
  template <int kTile>
  HWY_INLINE void Store(float* cells, int64_t step) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(cells), "r"(step * 4) : "memory");
  }
  /// sum[i][j] += a[i][k].low * b[k][j].low + a[i][k].high * b[k][j].high, over k: floats from pairs of bf16.
  template <int kSum, int kA, int kB>
  HWY_INLINE void MultiplyAdd() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
  }
};

/// The same by dot products of bf16 pairs (AVX512_BF16), whose sums are rounded in another order. Sums are kept in the
/// first-level cache; what is multiplied is read where it lies, and must not change before. The first factor's rows lie
/// one after the other. Products come two by two, of tile 4 or 5 with 6 and then 7: the first one waits for the second,
/// since 8 rows of sums times two vectors need 10 loads for 16 dot products, and 16 rows times one need 17.
class DotUnit {
 public:
  DotUnit() = default;
  DotUnit(const DotUnit&) = delete;
  DotUnit& operator=(const DotUnit&) = delete;

  template <int kTile>
  HWY_INLINE void Zero() {
    for (auto& row : sums_[kTile]) hn::Store(hn::Zero(Floats()), Floats(), row);
  }
  template <int kTile>
  HWY_INLINE void Load(const float* cells, int64_t step) {
    if constexpr (kTile < kSums) {
      for (int i = 0; i < kUnitRows; ++i) hn::Store(hn::Load(Floats(), cells + i * step), Floats(), sums_[kTile][i]);
    } else {
      assert(kTile >= 6 || step == kUnitCells);
      factors_[kTile - kSums] = {cells, step};
    }
  }
  template <int kTile>
  HWY_INLINE void LoadOnce(const float* cells, int64_t step) {
    Load<kTile>(cells, step);
  }
  template <int kTile>
  HWY_INLINE void Store(float* cells, int64_t step) {
    for (int i = 0; i < kUnitRows; ++i) hn::Store(hn::Load(Floats(), sums_[kTile][i]), Floats(), cells + i * step);
  }
  template <int kSum, int kA, int kB>
  HWY_INLINE void MultiplyAdd() {
    static_assert((kA == 4 || kA == 5) && kB == 6 + kSum % 2);
    if constexpr (kB == 7) MultiplyAddTwo(factors_[kA - kSums].cells, &factors_[kB - kSums - 1], &sums_[kSum - 1]);
  }

 private:
  static constexpr int kSums = 4;
  using Tile = float[kUnitRows][kUnitCells];
  struct Factor {
    const float* cells;
    int64_t step;
  };

  /// sums[j] += a * b[j], for two tiles side by side.
  static HWY_NOINLINE __attribute__((target("avx512bf16"))) void MultiplyAddTwo(const float* a, const Factor* b,
                                                                                Tile* sums) {
    constexpr int kRows = kUnitRows / 2;
    for (int first = 0; first < kUnitRows; first += kRows, a += kRows * kUnitCells) {
      __m512 sum[kRows][2];
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        sum[i][0] = _mm512_load_ps(sums[0][first + i]);
        sum[i][1] = _mm512_load_ps(sums[1][first + i]);
      }
      for (int k = 0; k < kUnitCells; ++k) {
        const auto left = (__m512bh)_mm512_load_ps(b[0].cells + k * b[0].step);
        const auto right = (__m512bh)_mm512_load_ps(b[1].cells + k * b[1].step);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
          const auto pair = (__m512bh)_mm512_set1_ps(a[i * kUnitCells + k]);
          sum[i][0] = _mm512_dpbf16_ps(sum[i][0], pair, left);
          sum[i][1] = _mm512_dpbf16_ps(sum[i][1], pair, right);
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        _mm512_store_ps(sums[0][first + i], sum[i][0]);
        _mm512_store_ps(sums[1][first + i], sum[i][1]);
      }
    }
  }

  alignas(64) Tile sums_[kSums];
  Factor factors_[kSums];
};

#endif

/// The same in plain code, for tests: slow, and to the bit what AMX computes. Sums of low and of high elements are
/// taken apart, each in the order of k, and then added to each other and to the sum; subnormal numbers count as zero
/// (on x86).
class EmulatedUnit {
 public:
  EmulatedUnit() = default;
  ~EmulatedUnit() { emulated_products += products_; }
  EmulatedUnit(const EmulatedUnit&) = delete;
  EmulatedUnit& operator=(const EmulatedUnit&) = delete;

  template <int kTile>
  void Zero() {
    std::memset(tile_[kTile], 0, sizeof tile_[kTile]);
  }
  template <int kTile>
  void Load(const float* cells, int64_t step) {
    Load(cells, step, tile_[kTile]);
  }
  template <int kTile>
  void LoadOnce(const float* cells, int64_t step) {
    Load(cells, step, tile_[kTile]);
  }
  template <int kTile>
  void Store(float* cells, int64_t step) {
    Store(tile_[kTile], cells, step);
  }
  template <int kSum, int kA, int kB>
  void MultiplyAdd() {
    MultiplyAdd(tile_[kA], tile_[kB], tile_[kSum]);
    ++products_;
  }

 private:
  using Tile = float[kUnitRows][kUnitCells];

  static HWY_NOINLINE void Load(const float* cells, int64_t step, Tile& tile) {
    for (int i = 0; i < kUnitRows; ++i) std::memcpy(tile[i], cells + i * step, sizeof tile[i]);
  }
  static HWY_NOINLINE void Store(const Tile& tile, float* cells, int64_t step) {
    for (int i = 0; i < kUnitRows; ++i) std::memcpy(cells + i * step, tile[i], sizeof tile[i]);
  }
  static HWY_NOINLINE void MultiplyAdd(const Tile& a, const Tile& b, Tile& sum) {
    const Floats d;
    const hn::RebindToUnsigned<decltype(d)> dc;
    const int lanes = static_cast<int>(hn::Lanes(d));
#if HWY_ARCH_X86
    const unsigned state = _mm_getcsr();
    // Subnormal operands and results are zero. A function of its own, whose loops stay between the two settings.
    _mm_setcsr(state | 0x8040);
#endif
    for (int i = 0; i < kUnitRows; ++i) {
      for (int j = 0; j < kUnitCells; j += lanes) {
        VF low = hn::Zero(d), high = hn::Zero(d);
        for (int k = 0; k < kUnitCells; ++k) {
          uint32_t pair;
          std::memcpy(&pair, &a[i][k], sizeof pair);
          const auto cells = hn::BitCast(dc, hn::LoadU(d, &b[k][j]));
          const VF a_low = hn::BitCast(d, hn::Set(dc, pair << 16)), b_low = hn::BitCast(d, hn::ShiftLeft<16>(cells));
          const VF a_high = hn::BitCast(d, hn::Set(dc, pair & 0xFFFF0000u));
          const VF b_high = hn::BitCast(d, hn::And(cells, hn::Set(dc, 0xFFFF0000u)));
          low = hn::MulAdd(a_low, b_low, low);
          high = hn::MulAdd(a_high, b_high, high);
        }
        hn::StoreU(hn::Add(hn::LoadU(d, &sum[i][j]), hn::Add(low, high)), d, &sum[i][j]);
      }
    }
#if HWY_ARCH_X86
    _mm_setcsr(state);
#endif
  }

  alignas(64) Tile tile_[8];
  int64_t products_ = 0;
};

}  // namespace nalab::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_SIMD_MATRIX_UNIT_INL_H_
