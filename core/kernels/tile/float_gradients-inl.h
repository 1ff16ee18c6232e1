// The arithmetic of the backward pass on a query tile, beside float_tile-inl.h, whose layout it shares: weights and
// their gradients are kept transposed, [keys][lanes], and so all five products come out in natural layouts. Each
// product is a function of its own: inlined into one, g++ 12 runs out of registers and reads addresses from memory in
// inner loops.
#include <cstdint>

#include "core/kernels/tile/float_tile-inl.h"

#if defined(NALAB_CORE_KERNELS_TILE_FLOAT_GRADIENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_FLOAT_GRADIENTS_INL_H_
#undef NALAB_CORE_KERNELS_TILE_FLOAT_GRADIENTS_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_FLOAT_GRADIENTS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

/// Rows of equal length in memory, `step` floats apart.
struct Rows {
  float* data;
  int64_t step;

  float* operator[](int64_t n) const { return data + n * step; }
};

/// Whether none of n floats is NaN or infinite; n is a multiple of the vector length.
HWY_INLINE bool AllFinite(const float* x, int64_t n) {
  const Floats d;
  VF check = hn::Zero(d);
  // x - x is 0 for a finite x and NaN otherwise.
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(hn::Lanes(d))) {
    const VF v = hn::Load(d, x + i);
    check = hn::Add(check, hn::Sub(v, v));
  }
  return hn::GetLane(hn::SumOfLanes(d, check)) == 0.0f;
}

/// sums[lane] = sum over c of a[c][lane] * b[c][lane], in the order of KeyProducts: if `a` on a lane equals a key's
/// row, the result equals its product with b to the last bit.
template <int Lanes>
HWY_INLINE void LaneProducts(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t dim,
                             float* HWY_RESTRICT sums) {
  const Floats d;
  for (int lane = 0; lane < Lanes; lane += static_cast<int>(hn::Lanes(d))) {
    VF sum = hn::Zero(d);
    for (int64_t c = 0; c < dim; ++c) {
      sum = hn::MulAdd(hn::Load(d, a + c * Lanes + lane), hn::Load(d, b + c * Lanes + lane), sum);
    }
    hn::Store(sum, d, sums + lane);
  }
}

/// Products of the listed keys' rows with the lanes, x [dim][Lanes]. Hands them to finish(key n of the list, vector v,
/// product), for all n up to a multiple of kRows.
template <int Lanes, class Finish>
HWY_INLINE void KeyProducts(const float* HWY_RESTRICT x, const Rows& rows, int64_t dim, const KeyList& list,
                            const Finish& finish) {
  constexpr int kRows = RegisterTile<Lanes>::kRows;
  constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  const Floats d;
  for (int64_t n = 0; n < list.count; n += kRows) {
    const float* row[kRows];
    VF sum[kRows][kVectors];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      row[i] = rows[list.index[n + i]];
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
    }
    for (int64_t c = 0; c < dim; ++c) {
      AddOuterProduct<Lanes>(
          x + c * Lanes, [&](int i) HWY_ATTR { return row[i][c]; }, sum);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) finish(n + i, v, sum[i][v]);
    }
  }
}

/// scores[n][lane]: products of queries and keys, for all n up to a multiple of kRows. Apart from WeightsFromLse: with
/// the constants of the exponential in registers g++ 12 spills in the products' loop.
template <int Lanes>
HWY_NOINLINE void KeyScores(const float* HWY_RESTRICT queries, const Rows& keys, int64_t dim, const KeyList& list,
                            float* HWY_RESTRICT scores) {
  constexpr int kStep = Lanes / RegisterTile<Lanes>::kVectors;
  KeyProducts<Lanes>(queries, keys, dim, list, [&](int64_t n, int v, VF score) HWY_ATTR {
    hn::Store(score, Floats(), scores + n * Lanes + v * kStep);
  });
}

/// weights[n][lane] = 2^(exponent_scale * score - lse2), scores being the products of queries and keys; lse2 [Lanes] is
/// the log-sum-exp of the scaled scores in base 2. biases [places][lanes], or null, are added to scaled scores. 0 where
/// a lane does not attend.
template <int Lanes>
HWY_NOINLINE void WeightsFromLse(const float* HWY_RESTRICT queries, const Rows& keys, int64_t dim, const KeyList& list,
                                 float exponent_scale, const float* HWY_RESTRICT biases, const float* HWY_RESTRICT lse2,
                                 float* HWY_RESTRICT weights) {
  constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  constexpr int kStep = Lanes / kVectors;
  const Floats d;
  const VF scale = hn::Set(d, exponent_scale), log2_e = hn::Set(d, 1.44269504088896341f);
  KeyScores<Lanes>(queries, keys, dim, list, weights);
  for (int64_t n = 0; n < list.count; ++n) {
    const bool masked = !list.all_attend && list.lanes[n] != kAllLanes<Lanes>;
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) {
      float* const weight = weights + n * Lanes + v * kStep;
      VF x = hn::MulSub(hn::Load(d, weight), scale, hn::Load(d, lse2 + v * kStep));
      if (biases != nullptr) {
        const float* const bias = biases + static_cast<int64_t>(list.bias[n]) * Lanes;
        x = hn::MulAdd(hn::Load(d, bias + v * kStep), log2_e, x);
      }
      // No weight exceeds 1, but the scores here and in the forward pass differ in their last bits. NaN stays.
      x = hn::IfThenZeroElse(hn::Gt(x, hn::Zero(d)), x);
      x = simd::HWY_NAMESPACE::Exp2NonPositive(d, x);
      if (masked) x = hn::IfThenElseZero(LaneMask(list.lanes[n], v), x);
      hn::Store(x, d, weight);
    }
  }
}

/// Weights become gradients of the scores in place: weight * (dout * value - delta), with delta [Lanes]; 0 where a lane
/// does not attend.
template <int Lanes>
HWY_NOINLINE void ScoreGradients(const float* HWY_RESTRICT dout, const Rows& values, int64_t dim_v, const KeyList& list,
                                 const float* HWY_RESTRICT delta, float* HWY_RESTRICT weights) {
  constexpr int kStep = Lanes / RegisterTile<Lanes>::kVectors;
  const Floats d;
  KeyProducts<Lanes>(dout, values, dim_v, list, [&](int64_t n, int v, VF product) HWY_ATTR {
    float* const weight = weights + n * Lanes + v * kStep;
    VF gradient = hn::Mul(hn::Load(d, weight), hn::Sub(product, hn::Load(d, delta + v * kStep)));
    if (list.lanes[n] != kAllLanes<Lanes>) gradient = hn::IfThenElseZero(LaneMask(list.lanes[n], v), gradient);
    hn::Store(gradient, d, weight);
  });
}

/// sums[place][lane] += gradients[n][lane] for the places of the listed keys.
template <int Lanes>
HWY_NOINLINE void AddToPlaces(const float* HWY_RESTRICT gradients, const KeyList& list, float* HWY_RESTRICT sums) {
  const Floats d;
  constexpr int kStep = static_cast<int>(hn::MaxLanes(Floats()));
  for (int64_t n = 0; n < list.count; ++n) {
    float* const sum = sums + static_cast<int64_t>(list.bias[n]) * Lanes;
#pragma GCC unroll 32
    for (int lane = 0; lane < Lanes; lane += kStep) {
      hn::Store(hn::Add(hn::Load(d, sum + lane), hn::Load(d, gradients + n * Lanes + lane)), d, sum + lane);
    }
  }
}

/// Keys of a register tile of AddOuter: with two vectors of columns each, accumulators fill the registers but for the
/// operands.
#if HWY_TARGET == HWY_AVX3
inline constexpr int kOuterKeys = 8;
#else
inline constexpr int kOuterKeys = 6;
#endif

/// One register tile of AddOuter: keys n to n + kOuterKeys of the list, kColumns vectors of columns from `column` on.
template <int Lanes, int kColumns, bool Careful>
HWY_INLINE void AddOuterTile(const float* HWY_RESTRICT weights, const Rows& x, const KeyList& list, int64_t n,
                             float* const (&row)[kOuterKeys], int64_t column) {
  const Floats d;
  constexpr int kStep = static_cast<int>(hn::MaxLanes(Floats()));
  VF sum[kOuterKeys][kColumns];
#pragma GCC unroll 16
  for (int i = 0; i < kOuterKeys; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kColumns; ++v) sum[i][v] = hn::Load(d, row[i] + column + v * kStep);
  }
  const float* HWY_RESTRICT columns = x.data + column;
  const float* HWY_RESTRICT weight = weights + n * Lanes;
  for (int lane = 0; lane < Lanes; ++lane, columns += x.step, ++weight) {
    VF factor[kColumns];
#pragma GCC unroll 4
    for (int v = 0; v < kColumns; ++v) factor[v] = hn::Load(d, columns + v * kStep);
#pragma GCC unroll 16
    for (int i = 0; i < kOuterKeys; ++i) {
      if (Careful && (list.lanes[n + i] >> lane & 1) == 0) continue;
      const VF w = hn::Set(d, weight[i * Lanes]);
#pragma GCC unroll 4
      for (int v = 0; v < kColumns; ++v) sum[i][v] = hn::MulAdd(w, factor[v], sum[i][v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kOuterKeys; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kColumns; ++v) hn::Store(sum[i][v], d, row[i] + column + v * kStep);
  }
}

/// target[row of n][c] += sum over lanes of weights[n][lane] * x[lane][c], for the listed keys n and all columns c of
/// rows that are padded to whole vectors. The list and the weights are read up to a multiple of kOuterKeys: rows of
/// `target` listed there take what belongs to no key. With Careful, x meets only the keys that its lane attends to:
/// needed if it is NaN or infinite.
template <int Lanes, bool Careful>
HWY_NOINLINE void AddOuter(const float* weights, const Rows& x, int64_t dim, const KeyList& list, const Rows& target) {
  constexpr int64_t kStep = static_cast<int64_t>(hn::MaxLanes(Floats()));
  for (int64_t n = 0; n < list.count; n += kOuterKeys) {
    float* row[kOuterKeys];
    for (int i = 0; i < kOuterKeys; ++i) row[i] = target[list.index[n + i]];
    int64_t column = 0;
    for (; column + kStep < dim; column += 2 * kStep) {
      AddOuterTile<Lanes, 2, Careful>(weights, x, list, n, row, column);
    }
    if (column < dim) AddOuterTile<Lanes, 1, Careful>(weights, x, list, n, row, column);
  }
}

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_TILE_FLOAT_GRADIENTS_INL_H_
