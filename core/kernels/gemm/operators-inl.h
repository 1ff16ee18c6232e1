// The two products of a tile with a block of packed rows, in float and on a matrix unit: with the rows, for PN, and
// with panels of their columns, for NN and IN. Between the two the scores or weights of a tile lie in float,
// [rows][lanes], whatever multiplies them.
#include <algorithm>
#include <array>
#include <cstdint>

#include "core/kernels/gemm/workspace.h"
#include "core/kernels/tile/float_tile-inl.h"
#include "core/kernels/tile/matrix_tile-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_GEMM_OPERATORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_GEMM_OPERATORS_INL_H_
#undef NALAB_CORE_KERNELS_GEMM_OPERATORS_INL_H_
#else
#define NALAB_CORE_KERNELS_GEMM_OPERATORS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::gemm::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
namespace products = nalab::tile::HWY_NAMESPACE;

using simd::HWY_NAMESPACE::Floats;
using simd::HWY_NAMESPACE::VF;

/// Rows of a block that a tile meets, as its products want them listed: one by one, or in whole groups.
template <class Operators>
class RowList {
 public:
  explicit RowList(int32_t* index) : index_(index) {}

  /// Lists rows, all of them behind those before. Returns the place of the first in [rows][lanes]; the others follow.
  int64_t add(geometry::Range rows) {
    constexpr int64_t kGroup = Operators::kGroup;
    const int64_t first = rows.begin / kGroup, last = (rows.end - 1) / kGroup;
    const bool listed = count_ > 0 && index_[count_ - 1] == first;
    const int64_t place = (listed ? count_ - 1 : count_) * kGroup + rows.begin % kGroup;
    for (int64_t group = listed ? first + 1 : first; group <= last; ++group) {
      index_[count_++] = static_cast<int32_t>(group);
    }
    return place;
  }

  /// Rows, or groups of them.
  int64_t count() const { return count_; }
  /// Of a row in a list; negative if it is not listed.
  static int64_t place(const products::KeyList& list, int64_t row) {
    const auto group = static_cast<int32_t>(row / Operators::kGroup);
    const int32_t* const found = std::lower_bound(list.index, list.index + list.count, group);
    if (found == list.index + list.count || *found != group) return -1;
    return (found - list.index) * Operators::kGroup + row % Operators::kGroup;
  }
  /// The list, padded with its last row.
  products::KeyList list(const uint32_t* lanes) const {
    for (int64_t n = count_; count_ > 0 && n % Operators::kRows != 0; ++n) index_[n] = index_[count_ - 1];
    return {index_, lanes, count_, false};
  }

 private:
  int32_t* const index_;
  int64_t count_ = 0;
};

/// In float.
template <int Lanes>
struct FloatOperators : products::FloatArithmetic<Lanes> {
  using Arithmetic = products::FloatArithmetic<Lanes>;
  using Arithmetic::kRows, Arithmetic::kVectors;

  static ProductFloats floats(int64_t dim, const Tiling& tiling) {
    const int64_t rows = tiling.block_keys + kMaxRows;
    return {
        .block = std::max(rows * dim, Arithmetic::panel_floats(tiling.block_keys, dim)),
        .packing = dim,
        .tile = rows * Lanes,
        .product = Lanes,
        .operand = Lanes * (dim + kRows),
    };
  }

  /// tile[n][lanes] = products of the lanes `x` with the listed rows.
  static HWY_INLINE void MultiplyRows(products::NoScope&, const float* x, const products::Block& block, int64_t dim,
                                      const products::KeyList& list, float* tile, float* maxima) {
    Arithmetic::Scores(x, block, dim, list, {}, tile, maxima);
  }

  /// sums[c][lanes] += sum over the listed rows of panels[c][row] * tile[n][lanes]. `finite`: of the block's numbers.
  /// Returns the lanes that have numbers in the tile which the product cannot take, as bits.
  static HWY_INLINE uint32_t AddColumns(products::NoScope&, const float* tile, const products::Block& block,
                                        int64_t dim, const products::KeyList& list, bool finite, float*, float* sums) {
    VF one[kVectors];
    for (VF& x : one) x = hn::Set(Floats(), 1.0f);
    const int64_t panels = geometry::ceil_div(dim, kRows);
    if (finite) {
      Arithmetic::template AddValues<false>(tile, block, panels, list, one, sums);
    } else {
      // 0 times NaN or infinity is not 0: these may meet only the weights of pairs that attend.
      Arithmetic::template AddValues<true>(tile, block, panels, list, one, sums);
    }
    return 0;
  }
};

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// On a matrix unit, of numbers in range. Weights and gradients of scores are rounded to bf16, or cut into parts, among
/// the products of their first panel.
template <class MatrixUnit, int Parts>
struct MatrixOperators : products::MatrixArithmetic<MatrixUnit, Parts> {
  using Arithmetic = products::MatrixArithmetic<MatrixUnit, Parts>;
  using Arithmetic::kGroup, Arithmetic::kLanes, Arithmetic::kStep, Arithmetic::kVectors;

  static ProductFloats floats(int64_t dim, const Tiling& tiling) {
    const int64_t rows = Arithmetic::block_rows(tiling.block_keys);
    return {
        .block = std::max(rows * Arithmetic::key_floats(dim), Arithmetic::panel_floats(tiling.block_keys, dim)),
        .packing = Arithmetic::packing_floats(dim, dim),
        .tile = (rows + kMaxRows) * kLanes,
        .product = Arithmetic::score_floats(tiling.block_keys),
        .operand = std::max(Arithmetic::query_floats(dim), tile::unit_steps(dim) * tile::kUnitStep * kLanes),
        .misfits = 1 + dim,
    };
  }

  static HWY_INLINE void MultiplyRows(MatrixUnit& unit, const float* x, const products::Block& block, int64_t dim,
                                      const products::KeyList& list, float* tile, float*) {
    typename Arithmetic::NoWork none;
    float* before = nullptr;
    for (int64_t n = 0; n < list.count; ++n) {
      const float* const rows = block.keys + list.index[n] * kGroup * Arithmetic::key_floats(dim);
      Arithmetic::RowProducts(unit, rows, x, dim, before, -1, none, {0, 0, 0, 0});
      before = tile + n * Arithmetic::kGroupScores;
    }
    Arithmetic::StoreTiles(unit, before);
  }

  static HWY_INLINE uint32_t AddColumns(MatrixUnit& unit, const float* tile, const products::Block& block, int64_t dim,
                                        const products::KeyList& list, bool, float* memory, float* sums) {
    const products::KeyList unmasked{list.index, list.lanes, list.count, true};
    Pairs pairs(unmasked, tile, memory + 2 * Arithmetic::kGroupScores);
    pairs.Begin(0);
    Arithmetic::AddColumns(unit, block, dim, unmasked, pairs.cells, list.count * Arithmetic::kPairs, pairs, memory,
                           sums);
    return pairs.Misfits();
  }

 private:
  /// The rows of a tile in pairs.
  struct Pairs : Arithmetic::template PairSteps<Pairs> {
    using Steps = typename Arithmetic::template PairSteps<Pairs>;
    using Bits = products::UnitCells;

    const float* tile;  ///< [groups][rows][lanes]
    float* cells;       ///< [groups][parts][pairs][lanes]
    // Where the rows of the next pair are, and where it is stored.
    const float* source = nullptr;
    float* cell = nullptr;
    hn::Vec<Bits> greatest[kVectors];

    HWY_INLINE Pairs(const products::KeyList& list, const float* rows, float* memory)
        : Steps(list), tile(rows), cells(memory) {
      for (auto& x : greatest) x = hn::Zero(Bits());
    }

    HWY_INLINE void Start() {
      source = tile + Steps::group * Arithmetic::kGroupScores;
      cell = cells + Steps::group * Arithmetic::kGroupWeights;
    }
    template <bool kMasked>
    HWY_INLINE void Pair() {
      const auto magnitude = hn::Set(Bits(), 0x7FFFFFFFu);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const VF even = hn::Load(Floats(), source + v * kStep);
        const VF odd = hn::Load(Floats(), source + kLanes + v * kStep);
        greatest[v] = hn::Max(greatest[v], hn::And(hn::BitCast(Bits(), even), magnitude));
        greatest[v] = hn::Max(greatest[v], hn::And(hn::BitCast(Bits(), odd), magnitude));
        products::StorePairs<Parts>(even, odd, cell + v * kStep, Arithmetic::kPairs * kLanes);
      }
      source += 2 * kLanes;
      cell += kLanes;
    }
    /// The lanes with numbers that are not finite, or no longer are when they are rounded.
    HWY_INLINE uint32_t Misfits() const {
      HWY_ALIGN uint32_t bits[kLanes];
      for (int v = 0; v < kVectors; ++v) hn::Store(greatest[v], Bits(), bits + v * kStep);
      uint32_t lanes = 0;
      for (int lane = 0; lane < kLanes; ++lane) lanes |= (bits[lane] >= 0x7F000000u ? 1u : 0u) << lane;
      return lanes;
    }
  };
};

#endif

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_GEMM_OPERATORS_INL_H_
