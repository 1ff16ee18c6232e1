// Scores of the rows of a block with one row of keys: keys lie on lanes, transposed once for all rows, and each column
// of the windows is a vector of keys: a load from one key further on, and a permutation where windows do not begin in
// order. Borders, strides and heads laid end to end are in the permutation alone, and no pair is computed in vain.
#include <cstdint>

#include "core/kernels/banded/strips.h"
#include "core/kernels/tile/transpose-inl.h"
#include "core/simd/convert-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_BANDED_SCORES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_SCORES_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_SCORES_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_SCORES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using simd::HWY_NAMESPACE::Floats;
using simd::HWY_NAMESPACE::VF;

/// Queries of a strip.
inline constexpr int kLanes = static_cast<int>(hn::MaxLanes(Floats()));

#if HWY_TARGET == HWY_AVX3
/// Rows of a register tile, at most; and columns that go with a number of rows: accumulators, keys and a query fill the
/// 32 registers.
inline constexpr int kMaxRows = 8;
constexpr int Columns(int rows) { return rows <= 3 ? 7 : rows == 4 ? 5 : rows == 5 ? 4 : 3; }
#else
inline constexpr int kMaxRows = 4;
constexpr int Columns(int rows) { return rows <= 2 ? 4 : 3; }
#endif

/// From one channel of transposed keys to the next: an odd number of cache lines.
inline int64_t KeyPitch(int64_t window) { return ((most_keys(window, kLanes) + 15) / 16 | 1) * 16; }

/// How the first keys of a strip's windows lie: one after the other, in two vectors, or anywhere.
enum class Order : uint8_t { in_order, in_two_vectors, anywhere };

inline Order OrderOf(const Strip& strip) {
  return strip.in_order() ? Order::in_order : strip.in_two_vectors() ? Order::in_two_vectors : Order::anywhere;
}

/// Keys of one row of keys, channel after channel.
struct KeyLanes {
  const float* data;  ///< [dim][pitch]
  int64_t pitch;
  const int32_t* index;  ///< the first key of each lane's window
};

/// Lane i takes element index[i] of two vectors one after the other.
HWY_INLINE VF Lookup(const float* keys, const int32_t* index) {
  const Floats d;
#if HWY_TARGET == HWY_AVX3
  return VF{_mm512_permutex2var_ps(_mm512_loadu_ps(keys), _mm512_load_si512(index), _mm512_loadu_ps(keys + 16))};
#elif HWY_TARGET == HWY_AVX2
  const __m256i i = _mm256_load_si256(reinterpret_cast<const __m256i*>(index));
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(keys), i);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(keys + 8), i);
  return VF{_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)))};
#else
  HWY_ALIGN float lanes[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = keys[index[lane]];
  return hn::Load(d, lanes);
#endif
}

/// A column of the windows of all lanes.
template <Order order>
HWY_INLINE VF KeysOf(const float* keys, const int32_t* index) {
  const Floats d;
  if constexpr (order == Order::in_order) {
    return hn::LoadU(d, keys);
  } else if constexpr (order == Order::in_two_vectors) {
    return Lookup(keys, index);
  } else {
    return hn::GatherIndex(d, keys, hn::Load(hn::RebindToSigned<Floats>(), index));
  }
}

/// scores[r][column] for `R` rows and `C` columns from `column` on. queries: [dim][row_pitch][kLanes].
template <int R, int C, Order order>
HWY_INLINE void ScoreTile(const float* HWY_RESTRICT queries, int64_t row_pitch, const KeyLanes& keys, int64_t dim,
                          int64_t column, float* const* scores) {
  const Floats d;
  VF sum[R][C];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) sum[r][j] = hn::Zero(d);
  }
  const float* HWY_RESTRICT key = keys.data + column;
  const int64_t step = row_pitch * kLanes;
  for (int64_t c = 0; c < dim; ++c, key += keys.pitch, queries += step) {
    VF k[C];
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) k[j] = KeysOf<order>(key + j, keys.index);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const VF q = hn::Load(d, queries + r * kLanes);
#pragma GCC unroll 16
      for (int j = 0; j < C; ++j) sum[r][j] = hn::MulAdd(q, k[j], sum[r][j]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) hn::Store(sum[r][j], d, scores[r] + (column + j) * kLanes);
  }
}

/// All columns of R rows, in tiles of nearly equal width.
template <int R, Order order>
HWY_NOINLINE void ScoreRows(const float* queries, int64_t row_pitch, const KeyLanes& keys, int64_t dim, int64_t window,
                            float* const* scores) {
  constexpr int kMost = Columns(R);
  const int64_t tiles = (window + kMost - 1) / kMost;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t column = window * tile / tiles, end = window * (tile + 1) / tiles;
    switch (end - column) {
      case 1:
        ScoreTile<R, 1, order>(queries, row_pitch, keys, dim, column, scores);
        break;
      case 2:
        ScoreTile<R, 2, order>(queries, row_pitch, keys, dim, column, scores);
        break;
      case 3:
        ScoreTile<R, 3, order>(queries, row_pitch, keys, dim, column, scores);
        break;
      case 4:
        if constexpr (kMost >= 4) ScoreTile<R, 4, order>(queries, row_pitch, keys, dim, column, scores);
        break;
      case 5:
        if constexpr (kMost >= 5) ScoreTile<R, 5, order>(queries, row_pitch, keys, dim, column, scores);
        break;
      case 6:
        if constexpr (kMost >= 6) ScoreTile<R, 6, order>(queries, row_pitch, keys, dim, column, scores);
        break;
      case 7:
        if constexpr (kMost >= 7) ScoreTile<R, 7, order>(queries, row_pitch, keys, dim, column, scores);
        break;
    }
  }
}

template <Order order, int R = 1>
HWY_INLINE void ScoreSomeRows(int64_t rows, const float* queries, int64_t row_pitch, const KeyLanes& keys, int64_t dim,
                              int64_t window, float* const* scores) {
  if constexpr (R <= kMaxRows) {
    if (rows == R) return ScoreRows<R, order>(queries, row_pitch, keys, dim, window, scores);
    ScoreSomeRows<order, R + 1>(rows, queries, row_pitch, keys, dim, window, scores);
  }
}

/// scores[r][column][lane] = query of row r and lane, times the key at a column of its window, for neighbouring rows of
/// a block. queries: [dim][row_pitch][kLanes], from the first of the rows on.
inline void HWY_ATTR Scores(int64_t rows, const float* queries, int64_t row_pitch, const KeyLanes& keys, Order order,
                            int64_t dim, int64_t window, float* const* scores) {
  const int64_t tiles = (rows + kMaxRows - 1) / kMaxRows;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t row = rows * tile / tiles, count = rows * (tile + 1) / tiles - row;
    const float* const first = queries + row * kLanes;
    switch (order) {
      case Order::in_order:
        ScoreSomeRows<Order::in_order>(count, first, row_pitch, keys, dim, window, scores + row);
        break;
      case Order::in_two_vectors:
        ScoreSomeRows<Order::in_two_vectors>(count, first, row_pitch, keys, dim, window, scores + row);
        break;
      case Order::anywhere:
        ScoreSomeRows<Order::anywhere>(count, first, row_pitch, keys, dim, window, scores + row);
        break;
    }
  }
}

/// lanes[c * pitch + i] = factor * row i, for `count` rows; further ones up to a whole vector repeat the last. Rows
/// that are not float pass through `memory` [kLanes][dim].
template <class T, class Row>
HWY_INLINE void ToLanes(int64_t count, int64_t dim, const Row& row, float factor, int64_t pitch, float* lanes,
                        float* memory) {
  const float* rows[kLanes];
  for (int64_t first = 0; first < count; first += kLanes) {
    for (int i = 0; i < kLanes; ++i) {
      const T* const source = row(first + i < count ? first + i : count - 1);
      if constexpr (std::is_same_v<T, float>) {
        rows[i] = source;
      } else {
        simd::HWY_NAMESPACE::CopyToFloats(source, dim, memory + i * dim);
        rows[i] = memory + i * dim;
      }
    }
    tile::HWY_NAMESPACE::RowsToLanes<kLanes>(rows, dim, factor, lanes + first, pitch);
  }
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_SCORES_INL_H_
