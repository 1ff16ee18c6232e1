// Scores of the rows of a block with one row of keys: keys lie on lanes, transposed once for all rows, and each column
// of the windows is a vector of keys: a load from one key further on, and a permutation where windows do not begin in
// order. Borders, strides and heads laid end to end are in the permutation alone, and no pair is computed in vain.
#include <cstdint>
#include <utility>

#include "core/kernels/banded/cells-inl.h"
#include "core/kernels/banded/strips.h"
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

#if HWY_TARGET == HWY_AVX3
/// Rows of a register tile, at most; and columns that go with a number of rows: accumulators, keys and a query fill the
/// 32 registers.
inline constexpr int kMaxRows = 8;
constexpr int Columns(int rows) { return rows <= 3 ? 7 : rows == 4 ? 5 : rows == 5 ? 4 : 3; }
#else
inline constexpr int kMaxRows = 4;
constexpr int Columns(int rows) { return rows <= 2 ? 4 : 3; }
#endif

/// The next channels of a row that ends after `count` of them, padded with zeros: nothing beyond its end is read.
HWY_INLINE VF LoadChannels(const float* row, int64_t count) {
  const Floats d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, static_cast<std::size_t>(count)), d, row);
#else
  // A masked load of Highway would read what it masks.
  if (count >= kLanes) return hn::LoadU(d, row);
  HWY_ALIGN float channels[kLanes] = {};
  for (int64_t c = 0; c < count; ++c) channels[c] = row[c];
  return hn::Load(d, channels);
#endif
}

/// Stores them; nothing beyond its end is written.
HWY_INLINE void StoreChannels(VF channels, float* row, int64_t count) {
  const Floats d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  hn::BlendedStore(channels, hn::FirstN(d, static_cast<std::size_t>(count)), d, row);
#else
  if (count >= kLanes) return hn::StoreU(channels, d, row);
  HWY_ALIGN float some[kLanes];
  hn::Store(channels, d, some);
  for (int64_t c = 0; c < count; ++c) row[c] = some[c];
#endif
}

/// V vectors of channels of a row. One alone may be cut short, after `count` channels.
template <int V>
HWY_INLINE void LoadRow(const float* row, int64_t count, VF (&vectors)[V]) {
  const Floats d;
  if constexpr (V == 1) {
    vectors[0] = LoadChannels(row, count);
  } else {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) vectors[v] = hn::LoadU(d, row + v * kLanes);
  }
}

/// How the first keys of a strip's windows lie: one after the other; so that those of all columns of a register tile
/// are in one vector, or in two; or anywhere.
enum class Order : uint8_t { in_order, in_one_vector, in_two_vectors, anywhere };

inline Order OrderOf(const Strip& strip) {
  if (strip.in_order()) return Order::in_order;
  if (strip.keys() <= kLanes) return Order::in_one_vector;
  return strip.index()[kLanes - 1] + Columns(1) <= 2 * kLanes ? Order::in_two_vectors : Order::anywhere;
}

/// Keys of one row of keys, cell after cell.
struct KeyLanes {
  const float* data;  ///< [cells][pitch]
  int64_t pitch;
  const int32_t* index;  ///< the first key of each lane's window
};

/// Where each lane finds its key of each column of a register tile, if they are in one vector or two.
class ColumnIndex {
 public:
  HWY_INLINE explicit ColumnIndex(const int32_t* first) {
    const hn::RebindToSigned<Floats> d;
    for (int j = 0; j < Columns(1); ++j) hn::Store(hn::Add(hn::Load(d, first), hn::Set(d, j)), d, index_ + j * kLanes);
  }
  /// Lane i takes element first[i] + column of a vector, which is at `keys`.
  HWY_INLINE VF Lookup([[maybe_unused]] VF vector, [[maybe_unused]] const float* keys, int column) const {
    const int32_t* const index = index_ + column * kLanes;
#if HWY_TARGET == HWY_AVX3
    return VF{_mm512_permutexvar_ps(_mm512_load_si512(index), vector.raw)};
#elif HWY_TARGET == HWY_AVX2
    return VF{_mm256_permutevar8x32_ps(vector.raw, _mm256_load_si256(reinterpret_cast<const __m256i*>(index)))};
#else
    return Gather(keys, index);
#endif
  }
  /// Lane i takes element first[i] + column of two vectors one after the other, which are at `keys`.
  HWY_INLINE VF Lookup([[maybe_unused]] VF low, [[maybe_unused]] VF high, [[maybe_unused]] const float* keys,
                       int column) const {
    const int32_t* const index = index_ + column * kLanes;
#if HWY_TARGET == HWY_AVX3
    return VF{_mm512_permutex2var_ps(low.raw, _mm512_load_si512(index), high.raw)};
#elif HWY_TARGET == HWY_AVX2
    const __m256i i = _mm256_load_si256(reinterpret_cast<const __m256i*>(index));
    return VF{_mm256_blendv_ps(_mm256_permutevar8x32_ps(low.raw, i), _mm256_permutevar8x32_ps(high.raw, i),
                               _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)))};
#else
    return Gather(keys, index);
#endif
  }

 private:
  static HWY_INLINE VF Gather(const float* keys, const int32_t* index) {
    HWY_ALIGN float lanes[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = keys[index[lane]];
    return hn::Load(Floats(), lanes);
  }

  HWY_ALIGN int32_t index_[Columns(1) * kLanes];
};

#if HWY_TARGET == HWY_AVX3
/// Columns of windows that begin one key after the other, from registers: a load across cache lines counts twice, and
/// few rows of queries would wait for loads.
template <int... column>
HWY_INLINE void ShiftKeys(const float* keys, VF* columns, std::integer_sequence<int, column...>) {
  const Floats d;
  const __m512i low = _mm512_castps_si512(hn::LoadU(d, keys).raw);
  const __m512i high = _mm512_castps_si512(hn::LoadU(d, keys + kLanes).raw);
  ((columns[column] = VF{_mm512_castsi512_ps(_mm512_alignr_epi32(high, low, column))}), ...);
}
#endif

/// Columns of the windows of all lanes, from `keys` on.
template <Order order, int C>
HWY_INLINE void LoadColumns(const float* keys, const int32_t* first, [[maybe_unused]] const ColumnIndex& index,
                            VF (&column)[C]) {
  const Floats d;
  if constexpr (order == Order::in_order) {
#if HWY_TARGET == HWY_AVX3
    if constexpr (C > 2) return ShiftKeys(keys, column, std::make_integer_sequence<int, C>());
#endif
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) column[j] = hn::LoadU(d, keys + j);
  } else if constexpr (order == Order::in_one_vector) {
    const VF vector = hn::LoadU(d, keys);
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) column[j] = index.Lookup(vector, keys, j);
  } else if constexpr (order == Order::in_two_vectors) {
    const VF low = hn::LoadU(d, keys), high = hn::LoadU(d, keys + kLanes);
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) column[j] = index.Lookup(low, high, keys, j);
  } else {
    const auto lanes = hn::Load(hn::RebindToSigned<Floats>(), first);
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) column[j] = hn::GatherIndex(d, keys + j, lanes);
  }
}

/// Makes the compiler load a vector once. Otherwise g++ 12 loads a query anew for each column that it meets, as an
/// operand of the multiply-add, and the loads take longer than the multiply-adds.
HWY_INLINE void KeepInRegister([[maybe_unused]] VF& vector) {
#if HWY_TARGET == HWY_AVX3
  asm("" : "+v"(vector.raw));
#elif HWY_TARGET == HWY_AVX2
  asm("" : "+x"(vector.raw));
#endif
}

/// scores[r][column] for `R` rows and `C` columns from `column` on. queries: [cells][row_pitch][kLanes].
template <class A, int R, int C, Order order>
HWY_INLINE void ScoreTile(const float* HWY_RESTRICT queries, int64_t row_pitch, const KeyLanes& keys,
                          const ColumnIndex& index, int64_t cells, int64_t column, float* const* scores) {
  const Floats d;
  VF sum[R][C];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) sum[r][j] = hn::Zero(d);
  }
  const float* HWY_RESTRICT key = keys.data + column;
  const int64_t step = row_pitch * kLanes;
  // Fewer turns, whose end is foreseen: the loop that follows begins while this one ends.
#pragma GCC unroll 2
  for (int64_t c = 0; c < cells; ++c, key += keys.pitch, queries += step) {
    VF k[C];
    LoadColumns<order>(key, keys.index, index, k);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      VF q = hn::Load(d, queries + r * kLanes);
      KeepInRegister(q);
#pragma GCC unroll 16
      for (int j = 0; j < C; ++j) sum[r][j] = A::MultiplyAdd(q, k[j], sum[r][j]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < C; ++j) hn::Store(sum[r][j], d, scores[r] + (column + j) * kLanes);
  }
}

template <class A, int R, Order order, int C = 1>
HWY_INLINE void ScoreSomeColumns(int64_t columns, const float* queries, int64_t row_pitch, const KeyLanes& keys,
                                 const ColumnIndex& index, int64_t cells, int64_t column, float* const* scores) {
  if constexpr (C <= Columns(R)) {
    if (columns == C) return ScoreTile<A, R, C, order>(queries, row_pitch, keys, index, cells, column, scores);
    ScoreSomeColumns<A, R, order, C + 1>(columns, queries, row_pitch, keys, index, cells, column, scores);
  }
}

/// All columns of R rows, in tiles of nearly equal width.
template <class A, int R, Order order>
HWY_NOINLINE void ScoreRows(const float* queries, int64_t row_pitch, const KeyLanes& keys, int64_t cells,
                            int64_t window, float* const* scores) {
  const ColumnIndex index(keys.index);
  const int64_t tiles = (window + Columns(R) - 1) / Columns(R);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t column = window * tile / tiles;
    ScoreSomeColumns<A, R, order>(window * (tile + 1) / tiles - column, queries, row_pitch, keys, index, cells, column,
                                  scores);
  }
}

template <class A, Order order, int R = 1>
HWY_INLINE void ScoreSomeRows(int64_t rows, const float* queries, int64_t row_pitch, const KeyLanes& keys,
                              int64_t cells, int64_t window, float* const* scores) {
  if constexpr (R <= kMaxRows) {
    if (rows == R) return ScoreRows<A, R, order>(queries, row_pitch, keys, cells, window, scores);
    ScoreSomeRows<A, order, R + 1>(rows, queries, row_pitch, keys, cells, window, scores);
  }
}

/// scores[r][column][lane] = query of row r and lane, times the key at a column of its window, for neighbouring rows of
/// a block. queries: [cells][row_pitch][kLanes], from the first of the rows on.
template <class A>
void HWY_ATTR Scores(int64_t rows, const float* queries, int64_t row_pitch, const KeyLanes& keys, Order order,
                     int64_t cells, int64_t window, float* const* scores) {
  const int64_t tiles = (rows + kMaxRows - 1) / kMaxRows;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t row = rows * tile / tiles, count = rows * (tile + 1) / tiles - row;
    const float* const first = queries + row * kLanes;
    switch (order) {
      case Order::in_order:
        ScoreSomeRows<A, Order::in_order>(count, first, row_pitch, keys, cells, window, scores + row);
        break;
      case Order::in_one_vector:
        ScoreSomeRows<A, Order::in_one_vector>(count, first, row_pitch, keys, cells, window, scores + row);
        break;
      case Order::in_two_vectors:
        ScoreSomeRows<A, Order::in_two_vectors>(count, first, row_pitch, keys, cells, window, scores + row);
        break;
      case Order::anywhere:
        ScoreSomeRows<A, Order::anywhere>(count, first, row_pitch, keys, cells, window, scores + row);
        break;
    }
  }
}

/// lanes[c * pitch + i] = cell c of row i, for `count` rows; further ones up to half a vector repeat the last.
template <class A, class T, class Row>
HWY_INLINE void ToLanes(int64_t count, int64_t dim, const Row& row, int64_t pitch, float* lanes) {
  const T* rows[kLanes];
  for (int64_t first = 0; first < count; first += kLanes) {
    const int64_t rest = count - first;
    for (int i = 0; i < kLanes; ++i) {
      if (i == kLanes / 2 && rest <= kLanes / 2) break;
      rows[i] = row(i < rest ? first + i : count - 1);
    }
    if (rest <= kLanes / 2) {
      A::template RowsToLanes<kLanes / 2>(rows, dim, lanes + first, pitch);
    } else {
      A::template RowsToLanes<kLanes>(rows, dim, lanes + first, pitch);
    }
  }
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_SCORES_INL_H_
