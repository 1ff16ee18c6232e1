// How operands of a matrix unit (AMX) lie in memory, and how rows of tensors get there: matrix_tile-inl.h multiplies
// them.
//
// Keys are packed as rows; values are transposed in groups of 32 keys; lists name whole groups.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "core/kernels/tile/tile_arithmetic-inl.h"
#include "core/kernels/tile/transpose-inl.h"
#include "core/kernels/tile/unit_numbers-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_TILE_MATRIX_LAYOUT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_MATRIX_LAYOUT_INL_H_
#undef NALAB_CORE_KERNELS_TILE_MATRIX_LAYOUT_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_MATRIX_LAYOUT_INL_H_
#endif

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

/// Of numbers in `Parts` parts.
template <int Parts>
struct MatrixLayout {
  static constexpr int kLanes = 32;
  static constexpr int kVectors = RegisterTile<kLanes>::kVectors;
  static constexpr int kStep = kLanes / kVectors;
  static constexpr int kRows = 32;
  static constexpr int64_t kKeyAlignment = 1;
  static constexpr int64_t kGroup = kUnitStep;
  static constexpr bool kTakesAll = false;
  using Element = std::conditional_t<Parts == 1, bf16, float>;
  template <class T>
  static constexpr bool kAccepts = std::is_same_v<T, Element>;

  /// Cells of a row in one part.
  static int64_t row_cells(int64_t dim) { return unit_steps(dim) * kUnitCells; }
  /// Queries: [parts][pairs of dim][lanes]. Keys: [groups][parts][steps of dim][keys][pairs of a step]. Values: panels
  /// of 32 columns, [groups][parts][columns][pairs of keys]. Weights: [groups][parts][pairs of keys][lanes], behind the
  /// scores of two groups.
  static int64_t query_floats(int64_t dim) { return Parts * row_cells(dim) * kLanes; }
  static int64_t key_floats(int64_t dim) { return Parts * row_cells(dim); }
  static int64_t panel_stride(int64_t block_keys) { return unit_steps(block_keys) * kGroupValues; }
  static int64_t panel_floats(int64_t block_keys, int64_t dim_v) {
    return unit_steps(dim_v) * panel_stride(block_keys);
  }
  static int64_t score_floats(int64_t block_keys) { return 2 * kGroupScores + unit_steps(block_keys) * kGroupWeights; }
  /// 32 rows of elements in parts.
  static int64_t packing_floats(int64_t dim, int64_t dim_v) { return kGroup * Parts * row_cells(std::max(dim, dim_v)); }
  static int64_t block_rows(int64_t block_keys) { return unit_steps(block_keys) * kGroup; }

  static HWY_INLINE uint32_t PackQueries(const float* const (&row)[kLanes], int64_t dim, float sign, float* q,
                                         float* memory) {
    const int64_t cells = row_cells(dim);
    auto* const halves = reinterpret_cast<uint16_t*>(memory);
    const float* packed[kLanes];
    uint32_t misfits = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      float* const target = memory + lane * Parts * cells;
      RangeCheck<Parts> check;
      PackParts<Parts>(row[lane], dim, halves + lane * Parts * 2 * cells, kUnitStep, 2 * cells, check);
      if (!check.Holds()) {
        misfits |= 1u << lane;
        std::fill_n(target, Parts * cells, 0.0f);
      }
      packed[lane] = target;
    }
    RowsToLanes<kLanes>(packed, Parts * cells, q);
    if (sign < 0) {
      const UnitCells dc;
      for (int64_t i = 0; i < query_floats(dim); i += kStep) {
        float* const p = q + i;
        const auto flipped = hn::Xor(hn::BitCast(dc, hn::Load(Floats(), p)), hn::Set(dc, 0x80008000u));
        hn::Store(hn::BitCast(Floats(), flipped), Floats(), p);
      }
    }
    return misfits;
  }

  /// Whether n numbers are in range.
  template <class T>
  static bool fits(const T* numbers, int64_t n) {
    return std::all_of(numbers, numbers + n, [](T x) {
      const float magnitude = std::abs(to_float(x));
      return magnitude == 0.0f || (RangeCheck<Parts>::kLeast <= magnitude && magnitude < RangeCheck<Parts>::kEnd);
    });
  }

  /// Rows of values wait in `memory` until their group is whole.
  template <class T>
  static HWY_INLINE bool PackKeys(const T* key, int64_t key_step, int64_t dim, const T* value, int64_t value_step,
                                  int64_t dim_v, int64_t count, int64_t used, const Block& block, float* memory) {
    const int64_t cells_v = row_cells(dim_v), end = used + count;
    const auto key_target = [&](int64_t n) { return RowOf(block.keys, n, dim); };
    const auto value_target = [&](int64_t n) {
      return reinterpret_cast<uint16_t*>(memory + n % kGroup * key_floats(dim_v));
    };
    bool all_fit = true;
    for (int64_t n = used; n < end;) {
      const int64_t first = n, end_of_group = std::min(end, (n / kGroup + 1) * kGroup), rows = end_of_group - first;
      const bool keys_fit = PackGroupRows(key + (first - used) * key_step, key_step, rows, dim, key_target(first));
      const bool values_fit =
          PackPartsOfRows<Parts>(value + (first - used) * value_step, value_step, rows, dim_v, value_target(first),
                                 2 * key_floats(dim_v), kUnitStep, 2 * cells_v);
      n = end_of_group;
      if (!keys_fit || !values_fit) {
        all_fit = false;
        for (int64_t row = first; row < end_of_group; ++row) {
          if (!fits(key + (row - used) * key_step, dim)) FillKey(key_target(row), dim, 1);
          for (int64_t c = 0; c < dim_v; ++c) {
            if (fits(value + (row - used) * value_step + c, 1)) continue;
            for (int part = 0; part < Parts; ++part) value_target(row)[part * 2 * cells_v + c] = 0;
          }
        }
      }
      if (n % kGroup == 0) TransposeGroup(memory, dim_v, n / kGroup - 1, block);
    }
    return all_fit;
  }

  static HWY_INLINE void FinishBlock(int64_t used, int64_t dim, int64_t dim_v, const Block& block, float* memory) {
    const int64_t begun = used % kGroup;
    if (begun == 0) return;
    const int64_t rest = kGroup - begun;
    FillKey(RowOf(block.keys, used, dim), dim, rest);
    std::fill_n(memory + begun * key_floats(dim_v), rest * key_floats(dim_v), 0.0f);
    TransposeGroup(memory, dim_v, used / kGroup, block);
  }

 protected:
  static constexpr int64_t kPairs = kGroup / 2;  ///< of keys of a group
  static constexpr int64_t kGroupScores = kGroup * kLanes;
  static constexpr int64_t kGroupWeights = Parts * kPairs * kLanes;
  static constexpr int64_t kTileCells = kUnitRows * kUnitCells;
  static constexpr int64_t kGroupValues = Parts * 2 * kTileCells;  ///< of one panel

  /// Row n of keys that are packed in groups.
  static float* RowOf(float* rows, int64_t n, int64_t dim) {
    return rows + n / kGroup * kGroup * key_floats(dim) + n % kGroup * kUnitCells;
  }

  /// Rows of one group, from the place of the first on. Returns whether their numbers are in range.
  template <class T>
  static bool PackGroupRows(const T* rows, int64_t row_step, int64_t count, int64_t dim, float* first) {
    return PackPartsOfRows<Parts>(rows, row_step, count, dim, reinterpret_cast<uint16_t*>(first), kUnitStep,
                                  kGroup * kUnitStep, row_cells(dim) * 2 * kGroup);
  }

  /// Zeros for `count` keys of a group from `key` on.
  static void FillKey(float* key, int64_t dim, int64_t count) {
    for (int64_t step = 0; step < key_floats(dim) / kUnitCells; ++step) {
      std::fill_n(key + step * kGroup * kUnitCells, count * kUnitCells, 0.0f);
    }
  }

  /// values: [32][parts][columns] of 16 bits.
  static HWY_INLINE void TransposeGroup(const float* values, int64_t dim_v, int64_t group, const Block& block) {
    const auto* const rows = reinterpret_cast<const uint16_t*>(values);
    const int64_t columns = 2 * row_cells(dim_v);
    TransposeToPanels([&](int64_t part, int64_t c) { return rows + part * columns + c; }, Parts * columns, dim_v, group,
                      block.values, block.panel_stride);
  }
  /// A group of rows into its place in panels. rows(part, c): the first row's elements from column c on; others follow
  /// `step` apart.
  template <class RowsOf>
  static HWY_INLINE void TransposeToPanels(const RowsOf& rows, int64_t step, int64_t dim, int64_t group, float* panels,
                                           int64_t panel_stride) {
    for (int part = 0; part < Parts; ++part) {
      for (int64_t c = 0; c < 2 * row_cells(dim); c += 8) {
        float* const panel = panels + c / kUnitStep * panel_stride + group * kGroupValues;
        float* const target = panel + part * 2 * kTileCells + c % kUnitStep * kUnitCells;
        TransposeEightColumns(rows(part, c), step, reinterpret_cast<uint16_t*>(target));
      }
    }
  }
};

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_TILE_MATRIX_LAYOUT_INL_H_
