// Products on rows as they lie in memory, for the unfused variants: scores (dot products of query rows with key rows),
// the softmax of a row of scores, and sums of value rows by weights. Nothing is packed.
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/simd/convert-inl.h"
#include "core/simd/exp-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_UNFUSED_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_UNFUSED_ROWS_INL_H_
#undef NALAB_CORE_KERNELS_UNFUSED_ROWS_INL_H_
#else
#define NALAB_CORE_KERNELS_UNFUSED_ROWS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::unfused::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using simd::HWY_NAMESPACE::Floats;
using simd::HWY_NAMESPACE::VF;

using simd::HWY_NAMESPACE::CopyToFloats;
using simd::HWY_NAMESPACE::LoadFloats;

/// Keys whose terms are summed before the sum joins the total.
inline constexpr int64_t kSumBlock = 512;

#if HWY_TARGET == HWY_SCALAR

/// The sums of four vectors' lanes, in order.
inline void SumsOfLanes(const VF (&v)[4], float (&sums)[4]) {
  for (int i = 0; i < 4; ++i) sums[i] = hn::GetLane(v[i]);
}

#else

/// Halves a vector by adding its upper to its lower half until four lanes are left.
template <class D, class V = hn::Vec<D>>
HWY_INLINE auto FoldToFour(D d, V v) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    (void)d;
    return v;
  } else {
    const hn::Half<D> half;
    return FoldToFour(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

/// The sums of four vectors' lanes, in order.
inline void HWY_ATTR SumsOfLanes(const VF (&v)[4], float (&sums)[4]) {
  const hn::FixedTag<float, 4> four;
  const Floats d;
  const auto v0 = FoldToFour(d, v[0]), v1 = FoldToFour(d, v[1]), v2 = FoldToFour(d, v[2]), v3 = FoldToFour(d, v[3]);
  const auto v01 = hn::Add(hn::InterleaveLower(four, v0, v1), hn::InterleaveUpper(four, v0, v1));
  const auto v23 = hn::Add(hn::InterleaveLower(four, v2, v3), hn::InterleaveUpper(four, v2, v3));
  hn::StoreU(hn::Add(hn::ConcatLowerLower(four, v23, v01), hn::ConcatUpperUpper(four, v23, v01)), four, sums);
}

#endif

/// scores[i][j] = scale * dot(q[i], k[j]) for Q queries and four keys. q is float, rows of `dim`.
template <int Q, class T>
HWY_INLINE void ScoresOfFourKeys(const float* const* q, const T* const* k, int64_t dim, float scale,
                                 float* const* scores) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  VF sum[Q][4];
  for (int i = 0; i < Q; ++i) {
    for (int j = 0; j < 4; ++j) sum[i][j] = hn::Zero(d);
  }
  int64_t c = 0;
  for (; c + lanes <= dim; c += lanes) {
    VF keys[4];
    for (int j = 0; j < 4; ++j) keys[j] = LoadFloats(d, k[j] + c);
    for (int i = 0; i < Q; ++i) {
      const VF query = hn::LoadU(d, q[i] + c);
      for (int j = 0; j < 4; ++j) sum[i][j] = hn::MulAdd(query, keys[j], sum[i][j]);
    }
  }
  for (int i = 0; i < Q; ++i) {
    float total[4];
    SumsOfLanes(sum[i], total);
    for (int64_t rest = c; rest < dim; ++rest) {
      for (int j = 0; j < 4; ++j) total[j] += q[i][rest] * to_float(k[j][rest]);
    }
    for (int j = 0; j < 4; ++j) scores[i][j] = scale * total[j];
  }
}

/// scores[i][n] = scale * dot(q[i], row(n)) for Q queries and n in [0, keys). row(n) points to the n-th key.
template <int Q, class Row>
HWY_INLINE void Scores(const float* const* q, int64_t dim, int64_t keys, Row row, float scale, float* const* scores) {
  using Pointer = decltype(row(0));
  for (int64_t n = 0; n < keys; n += 4) {
    // The last few keys repeat the last one; what they give is not kept.
    Pointer k[4];
    for (int j = 0; j < 4; ++j) k[j] = row(n + j < keys ? n + j : keys - 1);
    if (n + 4 <= keys) {
      float* target[Q];
      for (int i = 0; i < Q; ++i) target[i] = scores[i] + n;
      ScoresOfFourKeys<Q>(q, k, dim, scale, target);
    } else {
      float rest[Q][4];
      float* target[Q];
      for (int i = 0; i < Q; ++i) target[i] = rest[i];
      ScoresOfFourKeys<Q>(q, k, dim, scale, target);
      for (int i = 0; i < Q; ++i) {
        for (int64_t j = 0; n + j < keys; ++j) scores[i][n + j] = rest[i][j];
      }
    }
  }
}

/// Softmax of one row of scores, in place. Returns its log-sum-exp.
inline float HWY_ATTR Softmax(float* scores, int64_t n) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const float infinity = std::numeric_limits<float>::infinity();
  VF maxima = hn::Set(d, -infinity);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) maxima = hn::Max(maxima, hn::LoadU(d, scores + i));
  float max = hn::GetLane(hn::MaxOfLanes(d, maxima));
  for (; i < n; ++i) max = scores[i] > max ? scores[i] : max;

  const VF max_lanes = hn::Set(d, max);
  // Partial sums of a block each: over hundreds of thousands of keys the rounding of one sum would show.
  float sum = 0.0f;
  for (int64_t block = 0; block < n; block += kSumBlock) {
    const int64_t end = block + kSumBlock < n ? block + kSumBlock : n;
    VF sums = hn::Zero(d);
    for (i = block; i + lanes <= end; i += lanes) {
      const VF weight = simd::HWY_NAMESPACE::ExpNonPositive(d, hn::Sub(hn::LoadU(d, scores + i), max_lanes));
      hn::StoreU(weight, d, scores + i);
      sums = hn::Add(sums, weight);
    }
    float block_sum = hn::GetLane(hn::SumOfLanes(d, sums));
    for (; i < end; ++i) {
      scores[i] = hn::GetLane(simd::HWY_NAMESPACE::ExpNonPositive(d, hn::Set(d, scores[i] - max)));
      block_sum += scores[i];
    }
    sum += block_sum;
  }
  const float inverse = 1.0f / sum;
  const VF inverses = hn::Set(d, inverse);
  for (i = 0; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, scores + i), inverses), d, scores + i);
  for (; i < n; ++i) scores[i] *= inverse;
  // No weight at all: every score was -infinity, and the definition gives NaN. Said outright, rather than left to the
  // NaN that -infinity less -infinity is: with g++ 13 such a query came out as something else.
  return sum > 0.0f ? max + std::log(sum) : std::numeric_limits<float>::quiet_NaN();
}

/// The derivative of the softmax of one row: gradients of the loss with respect to the weights become
/// scale * weights * (gradients - sum of weights * gradients), those with respect to the scores before scaling.
inline void HWY_ATTR SoftmaxGradient(const float* weights, int64_t n, float scale, float* gradients) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  float sum = 0.0f;
  for (int64_t block = 0; block < n; block += kSumBlock) {
    const int64_t end = block + kSumBlock < n ? block + kSumBlock : n;
    VF sums = hn::Zero(d);
    for (i = block; i + lanes <= end; i += lanes) {
      sums = hn::MulAdd(hn::LoadU(d, weights + i), hn::LoadU(d, gradients + i), sums);
    }
    float block_sum = hn::GetLane(hn::SumOfLanes(d, sums));
    for (; i < end; ++i) block_sum += weights[i] * gradients[i];
    sum += block_sum;
  }
  const VF scales = hn::Set(d, scale);
  const VF sums = hn::Set(d, sum);
  for (i = 0; i + lanes <= n; i += lanes) {
    const VF weight = hn::Mul(hn::LoadU(d, weights + i), hn::Sub(hn::LoadU(d, gradients + i), sums));
    hn::StoreU(hn::Mul(scales, weight), d, gradients + i);
  }
  for (; i < n; ++i) gradients[i] = scale * (weights[i] * (gradients[i] - sum));
}

/// Columns [c, c + V lanes) of acc[i] = sum over n of weights[i][n] * row(n), added to acc. Keys go in turn to `Chains`
/// independent sums, so that a fused multiply-add need not wait for the one before.
template <int Q, int V, int Chains, class Row>
HWY_INLINE void AddWeightedColumns(const float* const* weights, int64_t keys, Row row, int64_t c, float* const* acc) {
  const Floats d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  VF sum[Chains][Q][V];
  for (int chain = 0; chain < Chains; ++chain) {
    for (int i = 0; i < Q; ++i) {
      for (int v = 0; v < V; ++v) sum[chain][i][v] = hn::Zero(d);
    }
  }
  int64_t n = 0;
  for (; n + Chains <= keys; n += Chains) {
    for (int chain = 0; chain < Chains; ++chain) {
      const auto* values = row(n + chain) + c;
      for (int v = 0; v < V; ++v) {
        const VF value = LoadFloats(d, values + v * lanes);
        for (int i = 0; i < Q; ++i) {
          sum[chain][i][v] = hn::MulAdd(hn::Set(d, weights[i][n + chain]), value, sum[chain][i][v]);
        }
      }
    }
  }
  for (; n < keys; ++n) {
    const auto* values = row(n) + c;
    for (int v = 0; v < V; ++v) {
      const VF value = LoadFloats(d, values + v * lanes);
      for (int i = 0; i < Q; ++i) sum[0][i][v] = hn::MulAdd(hn::Set(d, weights[i][n]), value, sum[0][i][v]);
    }
  }
  for (int i = 0; i < Q; ++i) {
    for (int v = 0; v < V; ++v) {
      VF total = hn::LoadU(d, acc[i] + c + v * lanes);
      for (int chain = 0; chain < Chains; ++chain) total = hn::Add(total, sum[chain][i][v]);
      hn::StoreU(total, d, acc[i] + c + v * lanes);
    }
  }
}

/// acc[i] += sum over n of weights[i][n] * row(n) for Q queries; acc has `dim` columns.
template <int Q, class Row>
HWY_INLINE void AddWeightedRows(const float* const* weights, int64_t keys, Row row, int64_t dim, float* const* acc) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(Floats()));
  constexpr int kChains = Q == 1 ? 2 : 1;
  for (int64_t block = 0; block < keys; block += kSumBlock) {
    const int64_t count = block + kSumBlock < keys ? kSumBlock : keys - block;
    const auto block_row = [&](int64_t n) HWY_ATTR { return row(block + n); };
    const float* w[Q];
    for (int i = 0; i < Q; ++i) w[i] = weights[i] + block;
    int64_t c = 0;
    for (; c + 4 * lanes <= dim; c += 4 * lanes) AddWeightedColumns<Q, 4, kChains>(w, count, block_row, c, acc);
    for (; c + 2 * lanes <= dim; c += 2 * lanes) AddWeightedColumns<Q, 2, 2 * kChains>(w, count, block_row, c, acc);
    for (; c + lanes <= dim; c += lanes) AddWeightedColumns<Q, 1, 4 * kChains>(w, count, block_row, c, acc);
    // Fewer columns than lanes are left.
    float rest[Q][hn::MaxLanes(Floats())] = {};
    for (int64_t n = 0; n < count && c < dim; ++n) {
      const auto* values = block_row(n) + c;
      for (int64_t j = 0; j < dim - c; ++j) {
        for (int i = 0; i < Q; ++i) rest[i][j] += w[i][n] * to_float(values[j]);
      }
    }
    for (int64_t j = 0; j < dim - c; ++j) {
      for (int i = 0; i < Q; ++i) acc[i][c + j] += rest[i][j];
    }
  }
}

}  // namespace nalab::unfused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_UNFUSED_ROWS_INL_H_
