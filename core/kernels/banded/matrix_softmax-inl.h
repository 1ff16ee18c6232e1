// The softmax of a strip between the two products on a matrix unit: scores lie in rows of queries, and so do weights,
// as bf16 among zeros. See matrix.cpp.
//
// Of each row of keys a query takes a vector from its own first key on: or half a vector, if windows have at most that
// many keys, and two queries share one. What lies beyond the window is masked.
#include <algorithm>
#include <cstdint>
#include <numbers>

#include "core/kernels/banded/matrix_packing-inl.h"
#include "core/simd/exp-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_BANDED_MATRIX_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_MATRIX_SOFTMAX_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_MATRIX_SOFTMAX_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_MATRIX_SOFTMAX_INL_H_
#endif

#ifndef NALAB_CORE_KERNELS_BANDED_MATRIX_SOFTMAX_ONCE
#define NALAB_CORE_KERNELS_BANDED_MATRIX_SOFTMAX_ONCE

namespace nalab::banded {

/// Scores of the queries of a strip and their keys in some rows of keys, and where the weights go.
struct WeightRows {
  const float* scores;  ///< of the first query and key
  uint16_t* weights;
  int64_t score_step, weight_step;  ///< from query to query
  int64_t planes = 1, score_plane = 0, weight_plane = 0;
  int64_t rows = 1, pitch = 0;      ///< rows of keys of a plane, and from one to the next
  const int32_t* index;             ///< [kQueries]: a query's first key in each row
  const int32_t* count;             ///< [kQueries]: its keys there
  int64_t window;                   ///< the most that it may have
  const float* const* biases = {};  ///< [kQueries]: of a query's first key in the first row; null without a bias
  int64_t bias_plane = 0, bias_row = 0;
};

}  // namespace nalab::banded

#endif  // NALAB_CORE_KERNELS_BANDED_MATRIX_SOFTMAX_ONCE

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

inline constexpr int kVector = static_cast<int>(hn::MaxLanes(Floats()));

/// A vector of the numbers of Q queries.
template <int Q>
HWY_INLINE VF LoadQueries(const float* first, [[maybe_unused]] const float* second) {
  const Floats d;
  if constexpr (Q == 1) {
    return hn::LoadU(d, first);
  } else {
    const hn::Half<Floats> half;
    return hn::Combine(d, hn::LoadU(half, second), hn::LoadU(half, first));
  }
}
template <int Q>
HWY_INLINE VF SetQueries(float first, [[maybe_unused]] float second) {
  const Floats d;
  if constexpr (Q == 1) {
    return hn::Set(d, first);
  } else {
    const hn::Half<Floats> half;
    return hn::Combine(d, hn::Set(half, second), hn::Set(half, first));
  }
}

/// As many bits as there are columns left, up to a chunk of them.
template <int Chunk>
HWY_INLINE uint32_t ColumnBits(int64_t left) {
  return (1u << std::clamp<int64_t>(left, 0, Chunk)) - 1;
}

/// Adds weights to the sums of Q queries and stores them as bf16; zeros for those that are masked.
template <int Q>
HWY_INLINE void AddAndStore(uint32_t mask, VF weight, VF& sum, uint16_t* first, [[maybe_unused]] uint16_t* second) {
  const Floats d;
  const hn::RebindToUnsigned<Floats> du;
  const auto bits = hn::Add(hn::BitCast(du, weight), hn::Set(du, 0x8000u));
#if HWY_TARGET == HWY_AVX3
  // The upper halves in one instruction, with the mask at no cost.
  const __mmask16 lanes = static_cast<__mmask16>(mask);
  sum = VF{_mm512_mask_add_ps(sum.raw, lanes, sum.raw, weight.raw)};
  const __m512i odd = _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 31, 29, 27, 25, 23,
                                       21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  const __m256i halves = _mm512_castsi512_si256(_mm512_maskz_permutexvar_epi16(lanes, odd, bits.raw));
  if constexpr (Q == 1) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first), halves);
  } else {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(first), _mm256_castsi256_si128(halves));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(second), _mm256_extracti128_si256(halves, 1));
  }
#else
  static_assert(Q == 1);
  const auto attends = tile::HWY_NAMESPACE::LaneMask(mask, 0);
  sum = hn::Add(sum, hn::IfThenElseZero(attends, weight));
  const auto halves = hn::ShiftRight<16>(hn::IfThenElseZero(hn::RebindMask(du, attends), bits));
  const hn::Rebind<uint16_t, Floats> d16;
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(hn::RebindToSigned<Floats>(), halves)), d16, first);
#endif
}

/// The weights of all queries, 2^(factor * (score - own score) + bias / ln 2), and a vector of sums of them for each Q
/// queries.
template <int Q, bool kBiased, bool kOneChunk>
HWY_NOINLINE void HWY_ATTR WeighWith(const WeightRows& rows, float factor, const float* own, float* sums) {
  constexpr int kChunk = kVector / Q;
  const Floats d;
  // Members would be read again after each store.
  const int64_t count = rows.rows, pitch = rows.pitch;
  [[maybe_unused]] const int64_t bias_row = rows.bias_row;
  const VF factors = hn::Set(d, factor);
  [[maybe_unused]] const VF log2e = hn::Set(d, std::numbers::log2e_v<float>);
  for (int i = 0; i < kQueries; i += Q) {
    const int j = i + Q - 1;
    const VF shift = hn::Neg(hn::Mul(SetQueries<Q>(own[i], own[j]), factors));
    const float* const scores1 = rows.scores + i * rows.score_step + rows.index[i];
    const float* const scores2 = rows.scores + j * rows.score_step + rows.index[j];
    uint16_t* const weights1 = rows.weights + i * rows.weight_step + rows.index[i];
    uint16_t* const weights2 = rows.weights + j * rows.weight_step + rows.index[j];
    uint32_t mask = ColumnBits<kChunk>(rows.count[i]);
    if constexpr (Q == 2) mask |= ColumnBits<kChunk>(rows.count[j]) << kChunk;
    // Not a window: at the start of a causal axis rows are shorter than that, and what follows them is another query's.
    [[maybe_unused]] const int64_t own_keys = rows.count[i];
    VF sum = hn::Zero(d);
    for (int64_t plane = 0; plane < rows.planes; ++plane) {
      int64_t score = plane * rows.score_plane, cell = plane * rows.weight_plane;
      [[maybe_unused]] int64_t bias = plane * rows.bias_plane;
      for (int64_t row = 0; row < count; ++row, score += pitch, cell += pitch, bias += bias_row) {
        for (int64_t c = 0; c < (kOneChunk ? 1 : own_keys); c += kChunk) {
          VF offset = shift;
          if constexpr (kBiased) {
            // At least a finite number, so that the exponent is one where callers mask with the lowest float or
            // -infinity. Max of x86 gives the second operand if one is NaN.
            const VF bias_of = LoadQueries<Q>(rows.biases[i] + bias + c, rows.biases[j] + bias + c);
            offset = hn::MulAdd(hn::Max(hn::Set(d, -1e30f), bias_of), log2e, offset);
          }
          const VF x = hn::MulAdd(LoadQueries<Q>(scores1 + score + c, scores2 + score + c), factors, offset);
          const uint32_t columns = kOneChunk ? mask : ColumnBits<kChunk>(rows.count[i] - c);
          AddAndStore<Q>(columns, simd::HWY_NAMESPACE::Exp2<false>(d, x), sum, weights1 + cell + c,
                         weights2 + cell + c);
        }
      }
    }
    hn::Store(sum, d, sums + i * kChunk);
  }
}

/// sums[i] = the sum of `chunk` numbers of each query.
inline void HWY_ATTR SumChunks(const float* numbers, int64_t chunk, float* sums) {
  const hn::FixedTag<float, 4> d;
  for (int i = 0; i < kQueries; i += 4) {
    hn::Vec<decltype(d)> v[4];
    for (auto& sum : v) {
      sum = hn::Load(d, numbers);
      for (int64_t c = 4; c < chunk; c += 4) sum = hn::Add(sum, hn::Load(d, numbers + c));
      numbers += chunk;
    }
    const auto v01 = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
    const auto v23 = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
    hn::Store(hn::Add(hn::ConcatLowerLower(d, v23, v01), hn::ConcatUpperUpper(d, v23, v01)), d, sums + i);
  }
}

/// The weights of all queries; sums[i] is that of a query's weights.
inline void HWY_ATTR Weigh(const WeightRows& rows, float factor, const float* own, float* sums) {
  HWY_ALIGN float vectors[kQueries * kVector];
  const auto weigh = [&]<int Q, bool kOneChunk>() HWY_ATTR {
    if (rows.biases != nullptr) {
      WeighWith<Q, true, kOneChunk>(rows, factor, own, vectors);
    } else {
      WeighWith<Q, false, kOneChunk>(rows, factor, own, vectors);
    }
    SumChunks(vectors, kVector / Q, sums);
  };
#if HWY_TARGET == HWY_AVX3
  if (rows.window <= kVector / 2) return weigh.template operator()<2, true>();
#endif
  rows.window <= kVector ? weigh.template operator()<1, true>() : weigh.template operator()<1, false>();
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

#endif  // NALAB_CORE_KERNELS_BANDED_MATRIX_SOFTMAX_INL_H_
