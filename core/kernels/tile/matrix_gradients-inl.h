// The backward pass of a query tile on a matrix unit, beside matrix_tile-inl.h, whose layout it shares.
//
// S^T = K Q^T and dP^T = V dout^T have keys as rows and queries on lanes, as forward; so has dQ^T = K^T dS^T, from the
// transposed keys and the gradients dS of scores in pairs of keys. For dV = P^T dout and dK = dS^T Q the weights P and
// dS are kept once more, as rows of keys, in pairs of queries: 16 cells a key and query tile. They wait until all query
// tiles have visited a block, so that these sums run over all queries of a task, and registers of sums are loaded and
// stored once for all of them. The vectors' work on a group of keys goes among the products of the next one.
#include <algorithm>
#include <bit>
#include <cstdint>

#include "core/kernels/tile/float_gradients-inl.h"
#include "core/kernels/tile/matrix_tile-inl.h"

#if defined(NALAB_CORE_KERNELS_TILE_MATRIX_GRADIENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_MATRIX_GRADIENTS_INL_H_
#undef NALAB_CORE_KERNELS_TILE_MATRIX_GRADIENTS_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_MATRIX_GRADIENTS_INL_H_
#endif

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

/// A block of keys and values in parts: as rows, in groups, [groups][parts][steps of dim][keys][pairs of a step], and
/// keys also in panels.
struct MatrixBlock {
  float* keys;
  float* values;
  float* panels;
  int64_t panel_stride;
};

/// A visit of a query tile to keys of a block, by groups.
struct MatrixGradientVisit {
  const MatrixBlock& block;
  int64_t dim;    ///< head_dim
  int64_t dim_v;  ///< head_dim_v
  const KeyList& list;
  float exponent;        ///< weights are 2^(exponent * (query * key) + log2 e * bias - lse2)
  const float* biases;   ///< [places][lanes]; null without a bias
  float* bias_sums;      ///< [places][lanes]: gradients of scores are added
  const float* queries;  ///< packed
  const float* dout;     ///< packed
  const float* lse2;     ///< [lanes]
  const float* delta;    ///< [lanes]
  float* dq;             ///< [head_dim padded][lanes]
  float* weight_rows;    ///< [groups of the block][parts][keys][pairs of queries]
  float* gradient_rows;  ///< the same of the gradients of scores
};

template <class MatrixUnit, int Parts>
struct MatrixGradients : MatrixArithmetic<MatrixUnit, Parts> {
  using Base = MatrixArithmetic<MatrixUnit, Parts>;
  using Base::kGroup, Base::kLanes, Base::kStep, Base::kVectors, Base::row_cells;

  /// Rows of the weights of a group.
  static constexpr int64_t kGroupRows = Parts * kGroup * kUnitCells;
  /// A tile's queries (or dout) in pairs: panels of 32 columns, [steps of dim][parts][pairs of queries][columns].
  static int64_t pair_floats(int64_t dim) { return unit_steps(dim) * kPanelPairs; }
  /// Scores and products with dout of two groups, and the gradients of a visit in pairs of keys.
  static int64_t visit_floats(int64_t block_keys) {
    return 4 * Base::kGroupScores + unit_steps(block_keys) * Base::kGroupWeights;
  }

  /// A tile's rows in pairs (q, q + 16), from memory that PackQueries has left: [lanes][parts][steps of dim].
  static HWY_INLINE void PackQueryPairs(const float* memory, int64_t dim, float* pairs) {
    const UnitCells dc;
    const hn::Rebind<uint16_t, Floats> d16;
    const auto* const halves = reinterpret_cast<const uint16_t*>(memory);
    const int64_t columns = 2 * row_cells(dim), step = Parts * columns;
    for (int part = 0; part < Parts; ++part) {
      for (int q = 0; q < kUnitRows; ++q) {
        const uint16_t* const low = halves + q * step + part * columns;
        const uint16_t* const high = low + kUnitRows * step;
        for (int64_t c = 0; c < columns; c += kStep) {
          const auto even = hn::PromoteTo(dc, hn::LoadU(d16, low + c));
          const auto odd = hn::PromoteTo(dc, hn::LoadU(d16, high + c));
          float* const target = pairs + c / kUnitStep * kPanelPairs + part * kPartPairs + q * kUnitStep + c % kUnitStep;
          hn::Store(hn::BitCast(Floats(), hn::Or(even, hn::ShiftLeft<16>(odd))), Floats(), target);
        }
      }
    }
  }

  /// sums[lane] of the products of a tile's rows with packed lanes, `lanes` being those of `factors`: in the order of
  /// the products with values, so that a row which is equal to a value has its product to the last bit. With one
  /// part, what bf16 does not hold of `rows` is multiplied in float and added; `rows` is overwritten. memory: as large
  /// as a group of keys. Returns the lanes whose rows do not fit, as bits.
  static HWY_INLINE uint32_t LaneProducts(MatrixUnit& unit, const Rows& rows, const Rows& factors, const float* lanes,
                                          int64_t dim, float* memory, float* scores, float* sums) {
    uint32_t misfits = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      RangeCheck<Parts> check;
      PackRow(rows[lane], dim, memory + lane * kUnitCells, check);
      if (!check.Holds()) {
        misfits |= 1u << lane;
        Base::FillKey(memory + lane * kUnitCells, dim, 1);
      }
    }
    typename Base::NoWork none;
    Base::RowProducts(unit, memory, lanes, dim, nullptr, -1, none, {0, 0, 0, 0});
    Base::StoreTiles(unit, scores);
    for (int lane = 0; lane < kLanes; ++lane) {
      sums[lane] = scores[lane * kLanes + lane];
      if constexpr (Parts == 1) {
        DropUpperHalves(rows[lane], dim);
        sums[lane] += DotOfRows(rows[lane], factors[lane], dim);
      }
    }
    return misfits;
  }

  /// Packs `count` keys and values from row `used` of a block on. misfits[row] becomes 1 where a number of either does
  /// not fit: zeros stand for both. Returns whether all fit.
  template <class T>
  static HWY_INLINE bool PackRows(const T* key, int64_t key_step, int64_t dim, const T* value, int64_t value_step,
                                  int64_t dim_v, int64_t count, int64_t used, const MatrixBlock& block,
                                  uint8_t* misfits) {
    const int64_t end = used + count;
    bool all_fit = true;
    for (int64_t n = used; n < end;) {
      const int64_t first = n, end_of_group = std::min(end, (n / kGroup + 1) * kGroup);
      const bool keys_fit = Base::PackGroupRows(key + (first - used) * key_step, key_step, end_of_group - first, dim,
                                                Base::RowOf(block.keys, first, dim));
      const bool values_fit = Base::PackGroupRows(value + (first - used) * value_step, value_step, end_of_group - first,
                                                  dim_v, Base::RowOf(block.values, first, dim_v));
      std::fill(misfits + first, misfits + end_of_group, uint8_t{0});
      n = end_of_group;
      if (!keys_fit || !values_fit) {
        for (int64_t row = first; row < end_of_group; ++row) {
          if (Base::fits(key + (row - used) * key_step, dim) && Base::fits(value + (row - used) * value_step, dim_v)) {
            continue;
          }
          misfits[row] = 1;
          all_fit = false;
          Base::FillKey(Base::RowOf(block.keys, row, dim), dim, 1);
          Base::FillKey(Base::RowOf(block.values, row, dim_v), dim_v, 1);
        }
      }
      if (n % kGroup == 0) TransposeKeys(n / kGroup - 1, dim, block);
    }
    return all_fit;
  }

  /// After the last row of a block: fills up its last group.
  static HWY_INLINE void FinishRows(int64_t used, int64_t dim, int64_t dim_v, const MatrixBlock& block) {
    const int64_t begun = used % kGroup;
    if (begun == 0) return;
    Base::FillKey(Base::RowOf(block.keys, used, dim), dim, kGroup - begun);
    Base::FillKey(Base::RowOf(block.values, used, dim_v), dim_v, kGroup - begun);
    TransposeKeys(used / kGroup, dim, block);
  }

  /// Adds to dq, and leaves the weights and the gradients of scores in rows for AddToKeys. memory: visit_floats.
  static HWY_INLINE void GradientsOfVisit(MatrixUnit& unit, const MatrixGradientVisit& visit, float* memory) {
    visit.biases != nullptr ? VisitWith<true>(unit, visit, memory) : VisitWith<false>(unit, visit, memory);
  }

  /// target[key][c] += sum over the queries of weights[key][query] * x[query][c], for the keys of a block and `dim`
  /// columns c. visitors[group]: the query tiles that have visited it, as bits; rows [tiles][groups][kGroupRows]; x
  /// [tiles], in pairs of queries. Rows of `target` are padded to a multiple of 32 columns, and to whole groups.
  static HWY_NOINLINE void AddToKeys(MatrixUnit& unit, int64_t groups, const uint32_t* visitors, const float* rows,
                                     int64_t tile_rows, const float* x, int64_t dim, const Rows& target) {
    const int64_t panels = unit_steps(dim);
    float* before = nullptr;
    for (int64_t group = 0; group < groups; ++group) {
      if (visitors[group] == 0) continue;
      for (int64_t panel = 0; panel < panels; ++panel) {
        float* const sums = target[group * kGroup] + panel * kUnitStep;
        bool first = true;
        for (uint32_t bits = visitors[group]; bits != 0; bits &= bits - 1) {
          const int64_t tile = std::countr_zero(bits);
          const float* const tile_a = rows + tile * tile_rows + group * kGroupRows;
          const float* const tile_b = x + tile * pair_floats(dim) + panel * kPanelPairs;
          for (const auto& [part_a, part_b] : kPartProducts<Parts>) {
            const float* const a = tile_a + part_a * kGroup * kUnitCells;
            const float* const b = tile_b + part_b * kPartPairs;
            unit.template Load<4>(a, kUnitCells);
            unit.template Load<6>(b, kUnitStep);
            if (first) Base::template BeginTile<0>(unit, before, sums, target.step);
            unit.template MultiplyAdd<0, 4, 6>();
            unit.template Load<7>(b + kUnitCells, kUnitStep);
            if (first) Base::template BeginTile<1>(unit, before, sums, target.step);
            unit.template MultiplyAdd<1, 4, 7>();
            unit.template Load<5>(a + Base::kTileCells, kUnitCells);
            if (first) Base::template BeginTile<2>(unit, before, sums, target.step);
            unit.template MultiplyAdd<2, 5, 6>();
            if (first) Base::template BeginTile<3>(unit, before, sums, target.step);
            unit.template MultiplyAdd<3, 5, 7>();
            first = false;
          }
        }
        before = sums;
      }
    }
    if (before != nullptr) Base::StoreTiles(unit, before, target.step);
  }

 private:
  static constexpr int64_t kPartPairs = kUnitRows * kUnitStep;
  static constexpr int64_t kPanelPairs = Parts * kPartPairs;

  /// What is left of numbers without the part of 16 bits that a row of one part holds.
  static HWY_INLINE void DropUpperHalves(float* row, int64_t dim) {
    const UnitCells dc;
    for (int64_t c = 0; c < dim; c += kStep) {
      const VF x = hn::Load(Floats(), row + c);
      const auto upper = hn::And(hn::BitCast(dc, x), hn::Set(dc, 0xFFFF0000u));
      hn::Store(hn::Sub(x, hn::BitCast(Floats(), upper)), Floats(), row + c);
    }
  }

  template <class T>
  static HWY_INLINE void PackRow(const T* row, int64_t dim, float* target, RangeCheck<Parts>& check) {
    PackParts<Parts>(row, dim, reinterpret_cast<uint16_t*>(target), kGroup * kUnitStep, row_cells(dim) * 2 * kGroup,
                     check);
  }

  static HWY_INLINE void TransposeKeys(int64_t group, int64_t dim, const MatrixBlock& block) {
    const float* const keys = block.keys + group * kGroup * Base::key_floats(dim);
    const auto rows = [&](int64_t part, int64_t c) {
      const int64_t step = part * unit_steps(dim) + c / kUnitStep;
      return reinterpret_cast<const uint16_t*>(keys + step * kGroup * kUnitCells) + c % kUnitStep;
    };
    Base::TransposeToPanels(rows, kUnitStep, dim, group, block.panels, block.panel_stride);
  }

  /// Weights, and the gradients of scores, of a visit.
  template <bool kBiased>
  struct WeightsAndGradients : Base::template PairSteps<WeightsAndGradients<kBiased>> {
    using Steps = typename Base::template PairSteps<WeightsAndGradients<kBiased>>;
    using Steps::group, Steps::list, Steps::row;

    const MatrixGradientVisit& visit;
    const float* scores;  ///< [two groups][scores, products with dout][keys][lanes]
    float* pairs;         ///< gradients of scores, [groups][parts][pairs of keys][lanes]
    VF exponent;
    VF lse2[kVectors], delta[kVectors];
    // Where those of the next pair are.
    const float* score = nullptr;
    float* pair = nullptr;
    float *weight_row = nullptr, *gradient_row = nullptr;

    HWY_INLINE WeightsAndGradients(const MatrixGradientVisit& of, float* memory)
        : Steps(of.list),
          visit(of),
          scores(memory),
          pairs(memory + 4 * Base::kGroupScores),
          exponent(hn::Set(Floats(), of.exponent)) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        lse2[v] = hn::Load(Floats(), of.lse2 + v * kStep);
        delta[v] = hn::Load(Floats(), of.delta + v * kStep);
      }
    }

    HWY_INLINE void Start() {
      score = scores + (group & 1) * 2 * Base::kGroupScores;
      pair = pairs + group * Base::kGroupWeights;
      weight_row = visit.weight_rows + list.index[group] * kGroupRows;
      gradient_row = visit.gradient_rows + list.index[group] * kGroupRows;
    }

    template <bool kMasked>
    HWY_INLINE void Pair() {
      constexpr int64_t kRowParts = kGroup * kUnitCells;
      VF gradient[2][kVectors];
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        VF weight[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) Compute<kMasked>(i, v, weight[v], gradient[i][v]);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors / 2; ++v) {
          const int64_t at = i * kUnitCells + v * kStep;
          StorePairs<Parts>(weight[v], weight[v + kVectors / 2], weight_row + at, kRowParts);
          StorePairs<Parts>(gradient[i][v], gradient[i][v + kVectors / 2], gradient_row + at, kRowParts);
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        StorePairs<Parts>(gradient[0][v], gradient[1][v], pair + v * kStep, Base::kPairs * kLanes);
      }
      score += 2 * kLanes;
      pair += kLanes;
      weight_row += 2 * kUnitCells;
      gradient_row += 2 * kUnitCells;
    }

    template <bool kMasked>
    HWY_INLINE void Compute(int i, int v, VF& weight, VF& gradient) {
      const Floats d;
      const int64_t at = i * kLanes + v * kStep;
      VF x = hn::MulSub(hn::Load(d, score + at), exponent, lse2[v]);
      int64_t place = 0;
      if constexpr (kBiased) {
        // At least a finite number, as forward.
        place = static_cast<int64_t>(list.bias[row + i]) * kLanes + v * kStep;
        x = hn::MulAdd(hn::Max(hn::Set(d, -1e30f), hn::Load(d, visit.biases + place)), hn::Set(d, 1.44269504088896341f),
                       x);
      }
      // No weight exceeds 1, but the scores here and in the forward pass differ in their last bits.
      weight = simd::HWY_NAMESPACE::Exp2<(Parts > 1)>(d, hn::Min(x, hn::Zero(d)));
      gradient = hn::Mul(weight, hn::Sub(hn::Load(d, score + Base::kGroupScores + at), delta[v]));
      if constexpr (kMasked) {
        const auto mask = LaneMask(list.lanes[row + i], v);
        weight = hn::IfThenElseZero(mask, weight);
        gradient = hn::IfThenElseZero(mask, gradient);
      }
      if constexpr (kBiased) {
        float* const sum = visit.bias_sums + place;
        hn::Store(hn::Add(hn::Load(d, sum), gradient), d, sum);
      }
    }
  };

  template <bool kBiased>
  static HWY_NOINLINE void VisitWith(MatrixUnit& unit, const MatrixGradientVisit& visit, float* memory) {
    const KeyList& list = visit.list;
    const MatrixBlock& block = visit.block;
    WeightsAndGradients<kBiased> work(visit, memory);
    // The pairs of the group before are spread over the products of a group but the first four, during which the sums
    // that they need are stored.
    const int64_t products = (unit_steps(visit.dim) + unit_steps(visit.dim_v)) * Base::kProducts - 1;
    const int64_t pairs = (Base::kPairs + products - 1) / products;
    int turn[4];
    for (int64_t i = 0; i < 4; ++i) turn[i] = static_cast<int>(pairs * (i + 1) / 4 - pairs * i / 4);

    for (int64_t group = 0; group < list.count; ++group) {
      const int64_t row = list.index[group] * kGroup;
      float* const scores = memory + (group & 1) * 2 * Base::kGroupScores;
      float* const before =
          group == 0 ? nullptr : memory + ((group - 1) & 1) * 2 * Base::kGroupScores + Base::kGroupScores;
      Base::RowProducts(unit, block.keys + row * Base::key_floats(visit.dim), visit.queries, visit.dim, before,
                        group - 1, work, turn);
      Base::RowProducts(unit, block.values + row * Base::key_floats(visit.dim_v), visit.dout, visit.dim_v, scores, -1,
                        work, turn);
      while (work.left > 0) work.Next();
    }
    Base::StoreTiles(unit, memory + ((list.count - 1) & 1) * 2 * Base::kGroupScores + Base::kGroupScores);
    work.Begin(list.count - 1);
    const Block panels{nullptr, block.panels, block.panel_stride};
    Base::AddColumns(unit, panels, visit.dim, list, work.pairs, Base::kPairs, work, memory, visit.dq);
  }
};

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_TILE_MATRIX_GRADIENTS_INL_H_
