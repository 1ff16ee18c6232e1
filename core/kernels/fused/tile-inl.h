// The arithmetic of a micro tile: products of packed tiles and the online softmax, in registers and first-level cache.
//
// Queries lie on vector lanes: scores are kept transposed, [keys][lanes], as S^T = K Q^T, with Q^T [head_dim][lanes]
// packed and elements of K broadcast. So a key more or less costs no padding, a mask is one bit per lane, the softmax
// needs no horizontal reduction, and a masked or missing query disturbs no other.
#include <cstdint>

#include "core/simd/convert-inl.h"
#include "core/simd/exp-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_FUSED_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_FUSED_TILE_INL_H_
#undef NALAB_CORE_KERNELS_FUSED_TILE_INL_H_
#else
#define NALAB_CORE_KERNELS_FUSED_TILE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using simd::HWY_NAMESPACE::Floats;
using simd::HWY_NAMESPACE::VF;

/// Shape of the register tile for `Lanes` queries: `kRows` keys (or value columns) times `kVectors` vectors of queries.
/// Accumulators fill the registers but for the operands. Measured in L1 with 32 registers (AVX-512): 8x2 is at peak,
/// 8x1 at 85 %, 4x4 at 78 %.
template <int Lanes>
struct RegisterTile {
  static constexpr int kVectors = Lanes / static_cast<int>(hn::MaxLanes(Floats()));
#if HWY_TARGET == HWY_AVX3
  static constexpr int kRows = 8;
#else
  static constexpr int kRows = kVectors <= 2 ? 6 : kVectors <= 4 ? 3 : 1;
#endif
};

/// Stands for "no score yet". Finite, so that differences of it are zero and not NaN; far below any score.
inline constexpr float kNoScore = -1e36f;

/// The lanes of vector v whose bits are set.
inline auto HWY_ATTR LaneMask(uint32_t bits, int v) {
  const Floats d;
  const hn::RebindToUnsigned<Floats> du;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(Floats()));
  const auto bit = hn::Shl(hn::Set(du, 1u), hn::Iota(du, 0u));
  return hn::RebindMask(d, hn::TestBit(hn::Set(du, bits >> (v * kLanes)), bit));
}

/// Keys of a block that a micro tile visits.
struct KeyList {
  const int32_t* index;   ///< row in the packed block; padded with the last one to a multiple of kRows
  const uint32_t* lanes;  ///< bit i: the query on lane i attends to the key; padding has none
  int64_t count;          ///< without padding
  bool all_attend;        ///< every lane attends to every key: no mask is looked at
};

/// scores[n][lanes] = K q^T for the listed keys, kNoScore where a lane does not attend; maxima raised to their maxima.
/// q: [dim][Lanes]; keys: rows of `dim`;
/// maxima: [Lanes].
template <int Lanes>
HWY_INLINE void ScoreTile(const float* HWY_RESTRICT q, const float* HWY_RESTRICT keys, int64_t dim, const KeyList& list,
                          float* HWY_RESTRICT scores, float* HWY_RESTRICT maxima) {
  constexpr int kRows = RegisterTile<Lanes>::kRows;
  constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  constexpr uint32_t kAll = Lanes == 32 ? ~0u : (1u << Lanes) - 1;
  constexpr int kStep = Lanes / kVectors;
  const Floats d;
  for (int64_t n = 0; n < list.count; n += kRows) {
    const float* row[kRows];
    uint32_t common = kAll;
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      row[i] = keys + list.index[n + i] * dim;
      common &= list.lanes[n + i];
    }
    VF sum[kRows][kVectors];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
    }
    for (int64_t c = 0; c < dim; ++c) {
      VF query[kVectors];
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) query[v] = hn::Load(d, q + c * Lanes + v * kStep);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const VF key = hn::Set(d, row[i][c]);
#pragma GCC unroll 32
        for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(key, query[v], sum[i][v]);
      }
    }
    if (common != kAll) {
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
        for (int v = 0; v < kVectors; ++v) {
          sum[i][v] = hn::IfThenElse(LaneMask(list.lanes[n + i], v), sum[i][v], hn::Set(d, kNoScore));
        }
      }
    }
    // Maxima live in memory: with them in registers g++ 12 spills accumulators inside the loop above.
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
}

/// Scores become weights in place: exp2(exponent_scale * (score - maximum)), 0 where a lane does not attend. Returns
/// their sums per lane in `sums`.
template <int Lanes>
HWY_INLINE void WeightTile(const KeyList& list, float exponent_scale, const VF (&maxima)[RegisterTile<Lanes>::kVectors],
                           float* HWY_RESTRICT scores, VF (&sums)[RegisterTile<Lanes>::kVectors]) {
  constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  constexpr uint32_t kAll = Lanes == 32 ? ~0u : (1u << Lanes) - 1;
  constexpr int kStep = Lanes / kVectors;
  const Floats d;
  const VF scale = hn::Set(d, exponent_scale);
  VF shift[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    shift[v] = hn::Mul(maxima[v], scale);
    sums[v] = hn::Zero(d);
  }
  for (int64_t n = 0; n < list.count; ++n) {
    const bool masked = !list.all_attend && list.lanes[n] != kAll;
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) {
      float* const p = scores + n * Lanes + v * kStep;
      VF weight = simd::HWY_NAMESPACE::Exp2NonPositive(d, hn::MulSub(hn::Load(d, p), scale, shift[v]));
      if (masked) weight = hn::IfThenElseZero(LaneMask(list.lanes[n], v), weight);
      hn::Store(weight, d, p);
      sums[v] = hn::Add(sums[v], weight);
    }
  }
}

/// out[c][lanes] = correction * out + sum over the listed keys of value[c] * weight, for all columns c.
/// values: panels of kRows columns, [keys][kRows], panel_stride apart. With Careful, a value meets only the lanes that
/// attend to its key: needed where it is NaN or infinite, since 0 times it is not 0.
template <int Lanes, bool Careful>
HWY_INLINE void ValueTile(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT values, int64_t panel_stride,
                          int64_t panels, const KeyList& list, const VF (&correction)[RegisterTile<Lanes>::kVectors],
                          float* HWY_RESTRICT out) {
  constexpr int kRows = RegisterTile<Lanes>::kRows;
  constexpr int kVectors = RegisterTile<Lanes>::kVectors;
  constexpr int kStep = Lanes / kVectors;
  const Floats d;
  for (int64_t panel = 0; panel < panels; ++panel) {
    const float* const base = values + panel * panel_stride;
    VF sum[kRows][kVectors];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
    }
    for (int64_t n = 0; n < list.count; ++n) {
      const float* const value = base + list.index[n] * kRows;
      VF weight[kVectors];
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) weight[v] = hn::Load(d, weights + n * Lanes + v * kStep);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const VF x = hn::Set(d, value[i]);
#pragma GCC unroll 32
        for (int v = 0; v < kVectors; ++v) {
          if constexpr (Careful) {
            const VF with = hn::MulAdd(x, weight[v], sum[i][v]);
            sum[i][v] = hn::IfThenElse(LaneMask(list.lanes[n], v), with, sum[i][v]);
          } else {
            sum[i][v] = hn::MulAdd(x, weight[v], sum[i][v]);
          }
        }
      }
    }
    float* const target = out + panel * kRows * Lanes;
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) {
        float* const p = target + i * Lanes + v * kStep;
        hn::Store(hn::MulAdd(hn::Load(d, p), correction[v], sum[i][v]), d, p);
      }
    }
  }
}

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_FUSED_TILE_INL_H_
