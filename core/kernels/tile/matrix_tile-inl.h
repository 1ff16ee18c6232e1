// The arithmetic of a query tile on a matrix unit (AMX), beside float_tile-inl.h: products of tiles of bf16, summed in
// float32.
//
// Queries stay on columns, as in all arithmetics: S^T = K Q^T and O^T = V^T P^T, in register tiles of 32 keys (or
// columns of values) times 32 queries, on operands that matrix_layout-inl.h packs. No maximum is tracked: bf16 and
// float32 have 8 bits of exponent, so that weights far above 1 lose nothing, and whoever called looks at the sums at
// the end. The softmax of a group runs between the products of the next but one, where its instructions cost next to
// nothing.
//
// With one part, elements are bf16 and weights are rounded to it. With three, elements and weights are floats, cut into
// parts of 8 bits each (the rounded number, what is left rounded, and the rest), and the six greatest of the nine
// products of parts are added: what is left out is below 2^-24 of a product.
#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/kernels/tile/matrix_layout-inl.h"
#include "core/kernels/tile/tile_arithmetic-inl.h"
#include "core/kernels/tile/unit_numbers-inl.h"
#include "core/simd/exp-inl.h"
#include "core/simd/matrix_unit-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_TILE_MATRIX_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_MATRIX_TILE_INL_H_
#undef NALAB_CORE_KERNELS_TILE_MATRIX_TILE_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_MATRIX_TILE_INL_H_
#endif

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

template <class MatrixUnit, int Parts>
struct MatrixArithmetic : MatrixLayout<Parts> {
  using Layout = MatrixLayout<Parts>;
  using Layout::kGroup, Layout::kLanes, Layout::kStep, Layout::kVectors, Layout::key_floats, Layout::row_cells;
  using Scope = MatrixUnit;

  static HWY_INLINE void Visit(MatrixUnit& unit, const TileVisit& visit, const TileState& state, float* memory) {
    if constexpr (std::is_same_v<MatrixUnit, EmulatedUnit>) {
      visit.biases.vectors != nullptr ? VisitWith<true, 0>(unit, visit, state, memory)
                                      : VisitWith<false, 0>(unit, visit, state, memory);
    } else if (visit.biases.vectors != nullptr) {
      VisitWith<true, Parts == 1 ? 8 : 4>(unit, visit, state, memory);
    } else {
      // So many that the pairs of a group are through with its products.
      const int64_t products = unit_steps(visit.dim) * kProducts;
      if (products >= kPairs) {
        VisitWith<false, 1>(unit, visit, state, memory);
      } else if (products >= kPairs / 2) {
        VisitWith<false, 2>(unit, visit, state, memory);
      } else if (products >= kPairs / 4) {
        VisitWith<false, 4>(unit, visit, state, memory);
      } else if constexpr (Parts == 1) {
        products >= kPairs / 8 ? VisitWith<false, 8>(unit, visit, state, memory)
                               : VisitWith<false, 16>(unit, visit, state, memory);
      }
    }
  }

 protected:
  using Layout::kGroupScores, Layout::kGroupValues, Layout::kGroupWeights, Layout::kPairs, Layout::kTileCells;
  static constexpr int64_t kProducts = static_cast<int64_t>(kPartProducts<Parts>.size());

  /// Work on vectors that goes among products: pairs of keys of the listed groups, one after the other. Work::Start
  /// begins with a group, Work::Pair does a pair and moves on. Not by lambdas, whose captures g++ 12 would keep in
  /// memory.
  template <class Work>
  struct PairSteps {
    const KeyList& list;
    // The next pair: its group (in the list), the first row; and how many of the group are left.
    int64_t group = 0, row = 0, left = 0;

    explicit HWY_INLINE PairSteps(const KeyList& keys) : list(keys) {}

    HWY_INLINE void Begin(int64_t next) {
      group = next;
      row = list.index[group] * kGroup;
      left = kPairs;
      work().Start();
    }
    HWY_INLINE void Next() {
      if (!list.all_attend && (list.lanes[row] & list.lanes[row + 1]) != kAllLanes<kLanes>) {
        work().template Pair<true>();
      } else {
        work().template Pair<false>();
      }
      row += 2;
      --left;
    }
    /// At most `most` pairs of a group.
    HWY_INLINE void Some(int most) {
#pragma GCC unroll 1
      for (int i = 0; i < most; ++i) {
        if (left > 0) Next();
      }
    }
    /// Pairs of all groups up to the end of the list.
    HWY_INLINE void Across(int64_t most) {
      for (; most > 0 && group < list.count; --most) {
        Next();
        if (left == 0) {
          if (++group == list.count) break;
          Begin(group);
        }
      }
    }

   private:
    HWY_INLINE Work& work() { return static_cast<Work&>(*this); }
  };

  /// The softmax of a visit.
  template <bool kBiased>
  struct Softmax : PairSteps<Softmax<kBiased>> {
    using Steps = PairSteps<Softmax<kBiased>>;
    using Steps::group, Steps::list, Steps::row;

    const float* biases;  ///< [places][lanes]
    float* scores;        ///< [two groups][keys][lanes]
    float* weights;       ///< [groups][parts][pairs][lanes]
    VF exponent, factor;
    VF shift[kVectors], sums[kVectors];
    // Where the scores and weights of the next pair are.
    const float* score = nullptr;
    float* cell = nullptr;

    HWY_INLINE Softmax(const TileVisit& visit, const TileState& state, float* memory)
        : Steps(visit.list),
          biases(visit.biases.vectors),
          scores(memory),
          weights(memory + 2 * kGroupScores),
          exponent(hn::Set(Floats(), visit.exponent)),
          factor(hn::Set(Floats(), kBiased ? visit.exponent * visit.biases.scale : visit.exponent)) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[v] = hn::Zero(Floats());
        shift[v] = hn::Neg(hn::Mul(hn::Load(Floats(), state.maxima + v * kStep), exponent));
      }
    }

    HWY_INLINE void Start() {
      score = scores + (group & 1) * kGroupScores;
      cell = weights + group * kGroupWeights;
    }

    template <bool kMasked>
    HWY_INLINE void Pair() {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const VF even = Weight<kMasked>(0, v), odd = Weight<kMasked>(1, v);
        sums[v] = hn::Add(sums[v], hn::Add(even, odd));
#if HWY_TARGET == HWY_AVX3
        asm volatile("" : "+v"(sums[v].raw));  // now: else g++ 12 adds them up at the end, from memory
#endif
        StorePairs<Parts>(even, odd, cell + v * kStep, kPairs * kLanes);
      }
      score += 2 * kLanes;
      cell += kLanes;
    }
    template <bool kMasked>
    HWY_INLINE VF Weight(int i, int v) {
      const Floats d;
      VF offset = shift[v];
      if constexpr (kBiased) {
        // At least a finite number, so that the exponent is one where callers mask with the lowest float or -infinity.
        // Max of x86 gives the second operand if one is NaN.
        const float* const bias = biases + static_cast<int64_t>(list.bias[row + i]) * kLanes;
        offset = hn::MulAdd(hn::Max(hn::Set(d, -1e30f), hn::Load(d, bias + v * kStep)), exponent, offset);
      }
      const VF x = hn::MulAdd(hn::Load(d, score + i * kLanes + v * kStep), factor, offset);
      const VF weight = simd::HWY_NAMESPACE::Exp2<(Parts > 1)>(d, x);
      return kMasked ? hn::IfThenElseZero(LaneMask(list.lanes[row + i], v), weight) : weight;
    }
  };

  /// Stores a register tile of sums, or one of its four tiles: 32 rows, `step` floats apart, of 32 sums.
  template <int kTile>
  static HWY_INLINE void StoreTile(MatrixUnit& unit, float* target, int64_t step = kLanes) {
    unit.template Store<kTile>(target + kTile / 2 * kUnitRows * step + kTile % 2 * kUnitCells, step);
  }
  static HWY_INLINE void StoreTiles(MatrixUnit& unit, float* target, int64_t step = kLanes) {
    StoreTile<0>(unit, target, step);
    StoreTile<1>(unit, target, step);
    StoreTile<2>(unit, target, step);
    StoreTile<3>(unit, target, step);
  }
  /// Begins a tile of sums, with zeros or with those of `from`. Sums before are stored as late as this: the unit need
  /// not wait for the last product of each.
  template <int kTile>
  static HWY_INLINE void BeginTile(MatrixUnit& unit, float* before, const float* from, int64_t step = kLanes) {
    if (before != nullptr) StoreTile<kTile>(unit, before, step);
    if (from == nullptr) {
      unit.template Zero<kTile>();
    } else {
      unit.template Load<kTile>(from + kTile / 2 * kUnitRows * step + kTile % 2 * kUnitCells, step);
    }
  }

  /// No work among products.
  struct NoWork {
    void Some(int) {}
    void Begin(int64_t) {}
  };

  /// Products of a group of rows with the lanes, x: a register tile of sums, begun when the one before is stored, which
  /// is work for the group `begun`, if there is one. turn: pairs of that to be taken after each product.
  template <class Work>
  static HWY_INLINE void RowProducts(MatrixUnit& unit, const float* rows, const float* x, int64_t dim, float* before,
                                     int64_t begun, Work& work, const int (&turn)[4]) {
    const int64_t cells = row_cells(dim);
    bool first = true;
    for (int64_t c = 0; c < cells; c += kUnitCells) {
      for (const auto& [part_a, part_b] : kPartProducts<Parts>) {
        const float* const a = rows + (part_a * cells + c) * kGroup;
        const float* const b = x + (part_b * cells + c) * kLanes;
        unit.template LoadOnce<4>(a, kUnitCells);
        unit.template Load<6>(b, kLanes);
        if (first) BeginTile<0>(unit, before, nullptr);
        unit.template MultiplyAdd<0, 4, 6>();
        work.Some(turn[0]);
        unit.template Load<7>(b + kUnitCells, kLanes);
        if (first) BeginTile<1>(unit, before, nullptr);
        unit.template MultiplyAdd<1, 4, 7>();
        work.Some(turn[1]);
        unit.template LoadOnce<5>(a + kTileCells, kUnitCells);
        if (first) BeginTile<2>(unit, before, nullptr);
        unit.template MultiplyAdd<2, 5, 6>();
        work.Some(turn[2]);
        if (first) BeginTile<3>(unit, before, nullptr);
        unit.template MultiplyAdd<3, 5, 7>();
        work.Some(turn[3]);
        if (first && begun >= 0) work.Begin(begun);
        first = false;
      }
    }
  }

  /// out[c][lane] += sum over the listed keys of panels[c][key] * weights[key][lane], for `dim` columns c of the
  /// block's panels and weights in pairs of keys, [groups][parts][pairs][lanes]. Those from steps.group on are not
  /// there yet: about `behind` pairs, which are taken among the products of the first panel. memory: two groups of
  /// scores, not in use.
  template <class Work>
  static HWY_INLINE void AddColumns(MatrixUnit& unit, const Block& block, int64_t dim, const KeyList& list,
                                    const float* weights, int64_t behind, Work& steps, float* memory, float* out) {
    const int64_t turn = (behind + list.count * kProducts - 1) / (list.count * kProducts);
    // Of parts, each visit has sums of its own, which are added in float: six products for 32 keys would round the
    // growing sums of all visits more often than multiply-adds do. They take the place of scores.
    const auto sums_of = [&](int64_t panel) {
      return Parts == 1 ? out + panel * kGroupScores : memory + (panel & 1) * kGroupScores;
    };
    const auto add_sums = [&](int64_t panel) HWY_ATTR {
      for (int64_t i = 0; i < kGroupScores; i += kStep) {
        float* const sum = out + panel * kGroupScores + i;
        hn::Store(hn::Add(hn::Load(Floats(), sum), hn::Load(Floats(), sums_of(panel) + i)), Floats(), sum);
      }
    };
    const int64_t panels = unit_steps(dim);
    for (int64_t panel = 0; panel < panels; ++panel) {
      float* const before = panel == 0 ? nullptr : sums_of(panel - 1);
      const float* const from = Parts == 1 ? sums_of(panel) : nullptr;
      for (int64_t group = 0; group < list.count; ++group) {
        while (steps.group <= group) steps.Across(1);
        const float* const values = block.values + panel * block.panel_stride + list.index[group] * kGroupValues;
        const float* const group_weights = weights + group * kGroupWeights;
        bool first = group == 0;
        for (const auto& [part_a, part_b] : kPartProducts<Parts>) {
          const float* const a = values + part_a * 2 * kTileCells;
          const float* const b = group_weights + part_b * kPairs * kLanes;
          unit.template LoadOnce<4>(a, kUnitCells);
          unit.template Load<6>(b, kLanes);
          if (first) BeginTile<0>(unit, before, from);
          unit.template MultiplyAdd<0, 4, 6>();
          unit.template Load<7>(b + kUnitCells, kLanes);
          if (first) BeginTile<1>(unit, before, from);
          unit.template MultiplyAdd<1, 4, 7>();
          unit.template LoadOnce<5>(a + kTileCells, kUnitCells);
          if (first) BeginTile<2>(unit, before, from);
          unit.template MultiplyAdd<2, 5, 6>();
          if (first) BeginTile<3>(unit, before, from);
          unit.template MultiplyAdd<3, 5, 7>();
          first = false;
          steps.Across(turn);
        }
      }
      if (Parts > 1 && panel > 0) add_sums(panel - 1);
    }
    StoreTiles(unit, sums_of(panels - 1));
    if (Parts > 1) add_sums(panels - 1);
  }

  /// kTurn: pairs of keys whose weights are computed among four products of tiles.
  template <bool kBiased, int kTurn>
  static HWY_NOINLINE void VisitWith(MatrixUnit& unit, const TileVisit& visit, const TileState& state, float* memory) {
    const KeyList& list = visit.list;
    const Block& block = visit.block;
    const int64_t cells = row_cells(visit.dim);
    Softmax<kBiased> softmax(visit, state, memory);

    for (int64_t group = 0; group < list.count; ++group) {
      // Among the products, weights of the group two back: the processor goes on with products meanwhile.
      if (group >= 2) softmax.Begin(group - 2);
      const float* const keys = block.keys + list.index[group] * kGroup * key_floats(visit.dim);
      float* const before = group == 0 ? nullptr : memory + ((group - 1) & 1) * kGroupScores;
      bool first = true;
      for (int64_t c = 0; c < cells; c += kUnitCells) {
        for (const auto& [part_a, part_b] : kPartProducts<Parts>) {
          const float* const a = keys + (part_a * cells + c) * kGroup;
          const float* const b = state.queries + (part_b * cells + c) * kLanes;
          unit.template LoadOnce<4>(a, kUnitCells);
          unit.template Load<6>(b, kLanes);
          if (first) BeginTile<0>(unit, before, nullptr);
          unit.template MultiplyAdd<0, 4, 6>();
          softmax.Some(kTurn / 4);
          unit.template Load<7>(b + kUnitCells, kLanes);
          if (first) BeginTile<1>(unit, before, nullptr);
          unit.template MultiplyAdd<1, 4, 7>();
          softmax.Some(kTurn / 2 - kTurn / 4);
          unit.template LoadOnce<5>(a + kTileCells, kUnitCells);
          if (first) BeginTile<2>(unit, before, nullptr);
          unit.template MultiplyAdd<2, 5, 6>();
          softmax.Some(kTurn * 3 / 4 - kTurn / 2);
          if (first) BeginTile<3>(unit, before, nullptr);
          unit.template MultiplyAdd<3, 5, 7>();
          softmax.Some(kTurn - kTurn * 3 / 4);
          first = false;
        }
      }
      while (softmax.left > 0) softmax.Next();
    }
    StoreTiles(unit, memory + ((list.count - 1) & 1) * kGroupScores);

    // The weights of the last two groups are computed among the products of the first panel.
    softmax.Begin(std::max<int64_t>(list.count - 2, 0));
    AddColumns(unit, block, visit.dim_v, list, softmax.weights, 2 * kPairs, softmax, memory, state.out);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      float* const sums = state.sums + v * kStep;
      hn::Store(hn::Add(hn::Load(Floats(), sums), softmax.sums[v]), Floats(), sums);
    }
  }
};

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_TILE_MATRIX_TILE_INL_H_
