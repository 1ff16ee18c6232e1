// Sums of rows of queries by weights for the keys of a run: the band of values-inl.h transposed. Channels lie on lanes,
// the keys of one row of keys are accumulators, and all rows of queries that attend to it add to them before they are
// added to what is in memory.
#include <cstdint>

#include "core/kernels/banded/scores-inl.h"
#include "core/kernels/banded/strips.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_BANDED_GRADIENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_GRADIENTS_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_GRADIENTS_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_GRADIENTS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

/// Columns of windows in a register tile, at most; and vectors of channels, and keys: accumulators fill the registers
/// but for the operands.
inline constexpr int kMaxColumns = 7;
#if HWY_TARGET == HWY_AVX3
inline constexpr int kMaxVectors = 2, kMaxKeys = 14;
#else
inline constexpr int kMaxVectors = 1, kMaxKeys = 12;
#endif
inline constexpr int kMaxQueries = kMaxKeys - kMaxColumns + 1;

/// The rows of queries of a block that attend to a row of keys: one run of each.
struct QueryRows {
  const float* const* rows;     ///< [count]: the run's first query
  const float* const* weights;  ///< [count]: [window][kLanes] of the strip's lanes
  int64_t count;
  int64_t step;  ///< from one query of the run to the next
};

/// The sums of the run's first key and of those that follow.
struct KeySums {
  float* first;
  int64_t step;
  int64_t dim;   ///< channels that there are
  float factor;  ///< of what is added
};

template <int K, int V>
HWY_INLINE void AddToKeys(const VF (&sum)[K][V], const KeySums& keys, int64_t key, int64_t channel) {
  const Floats d;
  const VF factor = hn::Set(d, keys.factor);
  float* row = keys.first + key * keys.step + channel;
  if (channel + V * kLanes <= keys.dim) {
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k, row += keys.step) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        float* const p = row + v * kLanes;
        hn::StoreU(hn::MulAdd(sum[k][v], factor, hn::LoadU(d, p)), d, p);
      }
    }
  } else if constexpr (V == 1) {
    const int64_t channels = keys.dim - channel;
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k, row += keys.step) {
      StoreChannels(hn::MulAdd(sum[k][0], factor, LoadChannels(row, channels)), row, channels);
    }
  }
}

/// Makes the compiler take an address as it is. Otherwise g++ 12 works out the part of each weight's address that is
/// the same for all rows, and keeps them all on the stack.
HWY_INLINE void KeepAddress(const float*& address) { asm("" : "+r"(address)); }

/// N queries whose windows begin one key after the other, C columns of them from `column` on.
template <int N, int C, int V>
HWY_NOINLINE void AddSlidingQueries(const QueryRows& queries, int first, int lane, int64_t column, int64_t channel,
                                    const KeySums& keys) {
  const Floats d;
  VF sum[N + C - 1][V];
#pragma GCC unroll 16
  for (int k = 0; k < N + C - 1; ++k) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[k][v] = hn::Zero(d);
  }
  for (int64_t r = 0; r < queries.count; ++r) {
    const float* weights = queries.weights[r] + column * kLanes + lane + first;
    const float* row = queries.rows[r] + first * queries.step + channel;
    KeepAddress(weights);
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i, row += queries.step) {
      VF x[V];
      LoadRow(row, keys.dim - channel, x);
#pragma GCC unroll 16
      for (int j = 0; j < C; ++j) {
        const VF weight = hn::Set(d, weights[j * kLanes + i]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[i + j][v] = hn::MulAdd(weight, x[v], sum[i + j][v]);
      }
    }
  }
  AddToKeys(sum, keys, first + column, channel);
}

/// Queries with one window, C columns of it from `column` on.
template <int C, int V>
HWY_NOINLINE void AddSharingQueries(const QueryRows& queries, int count, int lane, int64_t column, int64_t channel,
                                    const KeySums& keys) {
  const Floats d;
  VF sum[C][V];
#pragma GCC unroll 16
  for (int j = 0; j < C; ++j) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[j][v] = hn::Zero(d);
  }
  for (int64_t r = 0; r < queries.count; ++r) {
    const float* weights = queries.weights[r] + column * kLanes + lane;
    const float* row = queries.rows[r] + channel;
    KeepAddress(weights);
    for (int i = 0; i < count; ++i, row += queries.step) {
      VF x[V];
      LoadRow(row, keys.dim - channel, x);
#pragma GCC unroll 16
      for (int j = 0; j < C; ++j) {
        const VF weight = hn::Set(d, weights[j * kLanes + i]);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[j][v] = hn::MulAdd(weight, x[v], sum[j][v]);
      }
    }
  }
  AddToKeys(sum, keys, column, channel);
}

template <int C, int V, int N = 1>
HWY_INLINE void AddSomeQueries(const QueryRows& queries, int first, int count, int lane, int64_t column,
                               int64_t channel, const KeySums& keys) {
  if constexpr (N <= kMaxQueries) {
    if (count == N) return AddSlidingQueries<N, C, V>(queries, first, lane, column, channel, keys);
    AddSomeQueries<C, V, N + 1>(queries, first, count, lane, column, channel, keys);
  }
}

/// C columns of all queries of a run.
template <int C, int V>
HWY_INLINE void AddColumns(const QueryRows& queries, const Run& run, int64_t column, int64_t channel,
                           const KeySums& keys) {
  if (!run.sliding) return AddSharingQueries<C, V>(queries, run.count, run.lane, column, channel, keys);
  const int parts = (run.count + kMaxQueries - 1) / kMaxQueries;
  for (int part = 0; part < parts; ++part) {
    const int first = run.count * part / parts, count = run.count * (part + 1) / parts - first;
    AddSomeQueries<C, V>(queries, first, count, run.lane, column, channel, keys);
  }
}

template <int V, int C = 1>
HWY_INLINE void AddSomeColumns(int64_t columns, const QueryRows& queries, const Run& run, int64_t column,
                               int64_t channel, const KeySums& keys) {
  if constexpr (C <= kMaxColumns) {
    if (columns == C) return AddColumns<C, V>(queries, run, column, channel, keys);
    AddSomeColumns<V, C + 1>(columns, queries, run, column, channel, keys);
  }
}

/// All channels of V vectors each from `channel` on. Returns the channel that comes next.
template <int V>
HWY_INLINE int64_t AddChannels(const QueryRows& queries, const Run& run, int64_t channel, int64_t channels,
                               const KeySums& keys) {
  const int64_t tiles = (run.keys + kMaxColumns - 1) / kMaxColumns;
  for (; channel + V * kLanes <= channels; channel += V * kLanes) {
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t column = run.keys * tile / tiles;
      AddSomeColumns<V>(run.keys * (tile + 1) / tiles - column, queries, run, column, channel, keys);
    }
  }
  return channel;
}

/// The keys of a run += factor * weights times rows of queries.
inline void HWY_ATTR AddQueries(const QueryRows& queries, const Run& run, const KeySums& keys) {
  int64_t channel = 0;
  if constexpr (kMaxVectors > 1) channel = AddChannels<kMaxVectors>(queries, run, 0, keys.dim, keys);
  AddChannels<1>(queries, run, channel, (keys.dim + kLanes - 1) / kLanes * kLanes, keys);
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_GRADIENTS_INL_H_
