// The arithmetic of a query tile in float: packing, products of packed tiles and the online softmax, in registers and
// first-level cache.
//
// Queries lie on vector lanes: scores are kept transposed, [keys][lanes], as S^T = K Q^T, with Q^T [head_dim][lanes]
// packed and elements of K broadcast. So one key more or less costs no padding, a mask is one bit per lane, the softmax
// needs no horizontal reduction, and a masked or missing query disturbs no other.
#include <cstdint>

#include "core/kernels/tile/tile_arithmetic-inl.h"
#include "core/kernels/tile/transpose-inl.h"
#include "core/simd/convert-inl.h"
#include "core/simd/exp-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_TILE_FLOAT_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_FLOAT_TILE_INL_H_
#undef NALAB_CORE_KERNELS_TILE_FLOAT_TILE_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_FLOAT_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

/// A row as floats: in place, or converted into `memory`.
template <class T>
HWY_INLINE const float* AsFloats(const T* row, int64_t dim, float* memory) {
  if constexpr (std::is_same_v<T, float>) {
    return row;
  } else {
    simd::HWY_NAMESPACE::CopyToFloats(row, dim, memory);
    return memory;
  }
}

/// Product of a row of floats and a row of elements.
template <class T>
HWY_INLINE float DotOfRows(const float* a, const T* b, int64_t dim) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  VF sum = hn::Zero(d);
  int64_t c = 0;
  for (; c + lanes <= dim; c += lanes) {
    sum = hn::MulAdd(hn::LoadU(d, a + c), simd::HWY_NAMESPACE::LoadFloats(d, b + c), sum);
  }
  float rest = 0.0f;
  for (; c < dim; ++c) rest += a[c] * to_float(b[c]);
  return hn::GetLane(hn::SumOfLanes(d, sum)) + rest;
}

/// Adds biases to the scores of kRows listed keys from key n on, masks and stores them, and raises the maxima [Lanes]
/// to theirs. `common`: the lanes that attend to all of them.
template <int Lanes>
HWY_INLINE void FinishScores(const KeyList& list, int64_t n, uint32_t common, const LaneBiases& biases,
                             VF (&sum)[RegisterTile<Lanes>::kRows][RegisterTile<Lanes>::kVectors], float* scores,
                             float* maxima) {
  constexpr int kRows = RegisterTile<Lanes>::kRows;
  constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  constexpr int kStep = Lanes / kVectors;
  const Floats d;
  if (biases.vectors != nullptr) {
    const VF scale = hn::Set(d, biases.scale);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const float* const bias = biases.vectors + static_cast<int64_t>(list.bias[n + i]) * Lanes;
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(sum[i][v], scale, hn::Load(d, bias + v * kStep));
    }
  }
  if (common != kAllLanes<Lanes>) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) {
        sum[i][v] = hn::IfThenElse(LaneMask(list.lanes[n + i], v), sum[i][v], hn::Set(d, biases.no_score()));
      }
    }
  }
  // Maxima live in memory: with them in registers g++ 12 spills accumulators inside the products' loop.
#pragma GCC unroll 32
  for (int v = 0; v < kVectors; ++v) {
    VF max = hn::Load(d, maxima + v * kStep);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      hn::Store(sum[i][v], d, scores + (n + i) * Lanes + v * kStep);
      max = hn::Max(max, sum[i][v]);
    }
    hn::Store(max, d, maxima + v * kStep);
  }
}

/// out[kRows][Lanes] = correction * out + sum.
template <int Lanes>
HWY_INLINE void FinishValues(const VF (&sum)[RegisterTile<Lanes>::kRows][RegisterTile<Lanes>::kVectors],
                             const VF (&correction)[RegisterTile<Lanes>::kVectors], float* out) {
  constexpr int kRows = RegisterTile<Lanes>::kRows;
  constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  const Floats d;
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) {
      float* const p = out + i * Lanes + v * (Lanes / kVectors);
      hn::Store(hn::MulAdd(hn::Load(d, p), correction[v], sum[i][v]), d, p);
    }
  }
}

/// Weights of the listed keys: exp2(exponent_scale * (score - maximum)), 0 where a lane does not attend. Hands them to
/// store(n, vectors) in order; their sums per lane go to `sums`. kExact: to float, or as good as bf16 needs.
template <int Lanes, bool kExact, class Store>
HWY_INLINE void Weights(const KeyList& list, float exponent_scale, const VF (&maxima)[RegisterTile<Lanes>::kVectors],
                        const float* scores, VF (&sums)[RegisterTile<Lanes>::kVectors], Store store) {
  constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  constexpr int kStep = Lanes / kVectors;
  const Floats d;
  const VF scale = hn::Set(d, exponent_scale);
#pragma GCC unroll 32
  for (int v = 0; v < kVectors; ++v) sums[v] = hn::Zero(d);
  for (int64_t n = 0; n < list.count; ++n) {
    const bool masked = !list.all_attend && list.lanes[n] != kAllLanes<Lanes>;
    VF weight[kVectors];
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) {
      const VF score = hn::Load(d, scores + n * Lanes + v * kStep);
      const VF x = hn::Mul(hn::Sub(score, maxima[v]), scale);
      weight[v] = kExact ? simd::HWY_NAMESPACE::Exp2NonPositive(d, x) : simd::HWY_NAMESPACE::Exp2<false>(d, x);
      if (masked) weight[v] = hn::IfThenElseZero(LaneMask(list.lanes[n], v), weight[v]);
      sums[v] = hn::Add(sums[v], weight[v]);
    }
    store(n, weight);
  }
}

/// One step of the online softmax, by an arithmetic's products: Scores, Weigh and AddValues.
template <class A>
HWY_INLINE void OnlineVisit(const TileVisit& visit, const TileState& state, float* scores) {
  constexpr int kVectors = A::kVectors;
  constexpr int kStep = A::kStep;
  const Floats d;
  const KeyList& list = visit.list;
  const int64_t panels = (visit.dim_v + A::kRows - 1) / A::kRows;
  VF before[kVectors], maxima[kVectors], sums[kVectors], correction[kVectors];
  for (int v = 0; v < kVectors; ++v) before[v] = hn::Load(d, state.maxima + v * kStep);
  A::Scores(state.queries, visit.block, visit.dim, list, visit.biases, scores, state.maxima);
  for (int v = 0; v < kVectors; ++v) maxima[v] = hn::Load(d, state.maxima + v * kStep);
  A::Weigh(list, visit.exponent, maxima, scores, sums);
  for (int v = 0; v < kVectors; ++v) {
    const VF fall = hn::Mul(hn::Sub(before[v], maxima[v]), hn::Set(d, visit.exponent));
    correction[v] = simd::HWY_NAMESPACE::Exp2NonPositive(d, fall);
    const VF sum = hn::MulAdd(hn::Load(d, state.sums + v * kStep), correction[v], sums[v]);
    hn::Store(sum, d, state.sums + v * kStep);
  }
  if (visit.values_finite || list.all_attend) {
    A::template AddValues<false>(scores, visit.block, panels, list, correction, state.out);
  } else {
    A::template AddValues<true>(scores, visit.block, panels, list, correction, state.out);
  }
}

/// Arithmetic in float, for every element type: products and sums in float32, elements converted while they are packed.
template <int Lanes>
struct FloatArithmetic {
  static constexpr int kLanes = Lanes;
  static constexpr int kRows = RegisterTile<Lanes>::kRows;
  static constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  static constexpr int kStep = Lanes / kVectors;
  /// Keys are listed in runs that begin and end at multiples of this, in rows of the block.
  static constexpr int64_t kKeyAlignment = 1;
  static constexpr int64_t kGroup = 1;
  static constexpr bool kTakesAll = true;
  /// Element types that it packs.
  template <class T>
  static constexpr bool kAccepts = true;

  using Element = float;
  using Scope = NoScope;

  /// Queries [dim][Lanes]; keys as rows; values in panels of kRows columns, [block_keys][kRows], kPanelGap apart.
  static int64_t query_floats(int64_t dim) { return dim * Lanes; }
  static int64_t key_floats(int64_t dim) { return dim; }
  static int64_t panel_stride(int64_t block_keys) { return block_keys * kRows + kPanelGap; }
  static int64_t panel_floats(int64_t block_keys, int64_t dim_v) {
    return (dim_v + kRows - 1) / kRows * panel_stride(block_keys);
  }
  static int64_t score_floats(int64_t block_keys) { return (block_keys + kRows) * Lanes; }
  static int64_t packing_floats(int64_t, int64_t dim_v) { return dim_v; }
  static int64_t block_rows(int64_t block_keys) { return block_keys; }

  /// q: [dim][Lanes], from rows of float.
  static HWY_INLINE uint32_t PackQueries(const float* const (&row)[Lanes], int64_t dim, float sign, float* q, float*) {
    RowsToLanes<Lanes>(row, dim, q, Lanes, sign);
    return 0;
  }

  /// Packs `count` keys and values from row `used` of the block on. Rows of values pass through `memory` [dim_v].
  /// Returns whether all values are finite.
  template <class T>
  static HWY_INLINE bool PackKeys(const T* key, int64_t key_step, int64_t dim, const T* value, int64_t value_step,
                                  int64_t dim_v, int64_t count, int64_t used, const Block& block, float* memory) {
    const Floats d;
    // x - x is 0 for a finite x and NaN otherwise.
    VF check = hn::Zero(d);
    float check_rest = 0.0f;
    for (int64_t n = 0; n < count; ++n, ++used, key += key_step, value += value_step) {
      simd::HWY_NAMESPACE::CopyToFloats(key, dim, block.keys + used * dim);
      const float* const row = AsFloats(value, dim_v, memory);
      int64_t c = 0;
      for (; c + kStep <= dim_v; c += kStep) {
        const VF x = hn::LoadU(d, row + c);
        check = hn::Add(check, hn::Sub(x, x));
      }
      for (; c < dim_v; ++c) check_rest += row[c] - row[c];
      float* target = block.values + used * kRows;
      for (c = 0; c + kRows <= dim_v; c += kRows) {
        std::copy(row + c, row + c + kRows, target);
        target += block.panel_stride;
      }
      if (c < dim_v) std::fill(std::copy(row + c, row + dim_v, target), target + kRows, 0.0f);
    }
    return hn::GetLane(hn::SumOfLanes(d, check)) == 0.0f && check_rest == 0.0f;
  }

  static HWY_INLINE void FinishBlock(int64_t, int64_t, int64_t, const Block&, float*) {}

  static HWY_INLINE void Visit(NoScope&, const TileVisit& visit, const TileState& state, float* scores) {
    OnlineVisit<FloatArithmetic>(visit, state, scores);
  }

  /// scores[n][lanes] = K q^T for the listed keys, no_score() where a lane does not attend; maxima raised to their
  /// maxima. With biases: scale * K q^T + bias. q: [dim][Lanes]; maxima: [Lanes].
  static HWY_INLINE void Scores(const float* HWY_RESTRICT q, const Block& block, int64_t dim, const KeyList& list,
                                const LaneBiases& biases, float* HWY_RESTRICT scores, float* HWY_RESTRICT maxima) {
    const Floats d;
    FillRegisterTile<Lanes>([&]() HWY_ATTR {
      for (int64_t n = 0; n < list.count; n += kRows) {
        const float* row[kRows];
        uint32_t common = kAllLanes<Lanes>;
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
          row[i] = block.keys + list.index[n + i] * dim;
          common &= list.lanes[n + i];
        }
        VF sum[kRows][kVectors];
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
          for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
        }
        for (int64_t c = 0; c < dim; ++c) {
          AddOuterProduct<Lanes>(
              q + c * Lanes, [&](int i) HWY_ATTR { return row[i][c]; }, sum);
        }
        FinishScores<Lanes>(list, n, common, biases, sum, scores, maxima);
      }
    });
  }

  /// Scores become weights in place; see tile::Weights.
  static HWY_INLINE void Weigh(const KeyList& list, float exponent_scale, const VF (&maxima)[kVectors], float* scores,
                               VF (&sums)[kVectors]) {
    Weights<Lanes, true>(list, exponent_scale, maxima, scores, sums,
                         [&](int64_t n, const VF(&weight)[kVectors]) HWY_ATTR {
#pragma GCC unroll 32
                           for (int v = 0; v < kVectors; ++v)
                             hn::Store(weight[v], Floats(), scores + n * Lanes + v * kStep);
                         });
  }

  /// out[c][lanes] = correction * out + sum over the listed keys of value[c] * weight, for all columns c.
  /// With Careful, a value meets only the lanes that attend to its key: needed if it is NaN or infinite, since 0
  /// times it is not 0.
  template <bool Careful>
  static HWY_INLINE void AddValues(const float* HWY_RESTRICT weights, const Block& block, int64_t panels,
                                   const KeyList& list, const VF (&correction)[kVectors], float* HWY_RESTRICT out) {
    const Floats d;
    FillRegisterTile<Lanes>([&]() HWY_ATTR {
      for (int64_t panel = 0; panel < panels; ++panel) {
        const float* const base = block.values + panel * block.panel_stride;
        VF sum[kRows][kVectors];
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
          for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
        }
        for (int64_t n = 0; n < list.count; ++n) {
          const float* const value = base + list.index[n] * kRows;
          const float* const weight = weights + n * Lanes;
          if constexpr (Careful) {
#pragma GCC unroll 16
            for (int i = 0; i < kRows; ++i) {
              const VF x = hn::Set(d, value[i]);
#pragma GCC unroll 32
              for (int v = 0; v < kVectors; ++v) {
                const VF with = hn::MulAdd(x, hn::Load(d, weight + v * kStep), sum[i][v]);
                sum[i][v] = hn::IfThenElse(LaneMask(list.lanes[n], v), with, sum[i][v]);
              }
            }
          } else {
            AddOuterProduct<Lanes>(
                weight, [&](int i) HWY_ATTR { return value[i]; }, sum);
          }
        }
        FinishValues<Lanes>(sum, correction, out + panel * kRows * Lanes);
      }
    });
  }
};

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_TILE_FLOAT_TILE_INL_H_
