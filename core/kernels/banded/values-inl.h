// Sums of rows by weights for the queries of a strip: channels on lanes, rows where they lie or packed as pairs, and
// each row that is loaded serves all queries of a run that attend to it.
#include <algorithm>
#include <cstdint>

#include "core/kernels/banded/scores-inl.h"
#include "core/simd/targets.h"
#include "hwy/highway.h"

#if defined(NALAB_CORE_KERNELS_BANDED_VALUES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_BANDED_VALUES_INL_H_
#undef NALAB_CORE_KERNELS_BANDED_VALUES_INL_H_
#else
#define NALAB_CORE_KERNELS_BANDED_VALUES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

/// Rows of a cell for each channel, `step` cells apart, that end after `channels`.
struct CellRows {
  const float* first;
  int64_t step;
  int64_t channels;
  uint32_t halves = ~0u;  ///< the bits of a cell that count, if it is a pair; the others count as zero
};

/// V vectors of channels of a row of `rows`.
template <class A, int V>
HWY_INLINE void LoadCells(const float* row, const CellRows& rows, VF (&cells)[V]) {
  LoadRow(row, rows.channels, cells);
  if constexpr (A::kElements == 2) {
    const Floats d;
    const VF halves = hn::BitCast(d, hn::Set(Cells(), rows.halves));
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) cells[v] = hn::And(cells[v], halves);
  }
}

/// One run's weights of one row of keys: weight of query i for the column j of its window at [j * kLanes + i].
///
/// sum[i][v] += weights times rows, for N queries whose windows begin one row after the other. W: the window if it is
/// known when compiled, so that all is unrolled; else 0, and then it is at least N.
template <class A, int N, int V, int W>
HWY_INLINE void AddSliding(const float* HWY_RESTRICT weights, CellRows rows, int64_t window, VF (&sum)[N][V]) {
  const Floats d;
  const float* HWY_RESTRICT row = rows.first;
  const auto load = [&](VF(&value)[V]) HWY_ATTR {
    LoadCells<A>(row, rows, value);
    row += rows.step;
  };
  const auto add = [&](int i, int64_t column, const VF(&value)[V]) HWY_ATTR {
    const VF weight = hn::Set(d, weights[column * kLanes + i]);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[i][v] = A::MultiplyAdd(weight, value[v], sum[i][v]);
  };
  if constexpr (W > 0) {
#pragma GCC unroll 32
    for (int k = 0; k < N + W - 1; ++k) {
      VF value[V];
      load(value);
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) {
        if (i <= k && k - i < W) add(i, k - i, value);
      }
    }
  } else {
#pragma GCC unroll 16
    for (int k = 0; k < N - 1; ++k) {
      VF value[V];
      load(value);
#pragma GCC unroll 16
      for (int i = 0; i <= k; ++i) add(i, k - i, value);
    }
    for (int64_t k = N - 1; k < window; ++k) {
      VF value[V];
      load(value);
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) add(i, k - i, value);
    }
#pragma GCC unroll 16
    for (int k = 1; k < N; ++k) {
      VF value[V];
      load(value);
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) {
        if (i >= k) add(i, window - 1 + k - i, value);
      }
    }
  }
}

/// The same for N queries with one window.
template <class A, int N, int V>
HWY_INLINE void AddShared(const float* HWY_RESTRICT weights, CellRows rows, int64_t keys, VF (&sum)[N][V]) {
  const Floats d;
  const float* HWY_RESTRICT row = rows.first;
  for (int64_t k = 0; k < keys; ++k, row += rows.step, weights += kLanes) {
    VF value[V];
    LoadCells<A>(row, rows, value);
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      const VF weight = hn::Set(d, weights[i]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[i][v] = A::MultiplyAdd(weight, value[v], sum[i][v]);
    }
  }
}

/// The values that a run attends to in the rows of keys of one row of queries, in order, and then the extra tokens'.
struct ValueList {
  const float* const* rows;  ///< [count]: each row of keys, or pair of them
  int64_t count;
  int64_t first;  ///< of the run's first key in each of them
  int64_t step;   ///< from one key to the next
  int64_t channels;
  CellRows extra;
  int64_t extra_rows;      ///< extra tokens, or pairs of them
  const float* weights;    ///< [count][window][kLanes], then [extra_rows][kLanes]
  const uint32_t* halves;  ///< [count], of pairs of rows: as CellRows has them
};

/// Where the sums of the queries of a strip go, and what they are multiplied by.
struct SumTargets {
  float* const* rows;
  const float* factors;
};

/// Sums of N queries of a run from `first` on, V vectors of channels from `channel` on.
template <class A, int N, int V, int W>
HWY_NOINLINE void SumRun(const ValueList& list, const Run& run, int first, int64_t window, int64_t channel,
                         const SumTargets& targets) {
  const Floats d;
  VF sum[N][V];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[i][v] = hn::Zero(d);
  }
  const int lane = run.lane + first;
  const int64_t offset = list.first + (run.sliding ? first * list.step : 0) + channel;
  const float* weights = list.weights + lane;
  for (int64_t row = 0; row < list.count; ++row, weights += window * kLanes) {
    CellRows rows{list.rows[row] + offset, list.step, list.channels - channel};
    if constexpr (A::kElements == 2) rows.halves = list.halves[row];
    if (run.sliding) {
      AddSliding<A, N, V, W>(weights, rows, window, sum);
    } else {
      AddShared<A, N, V>(weights, rows, run.keys, sum);
    }
  }
  if (list.extra_rows > 0) {
    const CellRows rows{list.extra.first + channel, list.extra.step, list.channels - channel};
    AddShared<A, N, V>(weights, rows, list.extra_rows, sum);
  }
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) {
    const VF factor = hn::Set(d, targets.factors[lane + i]);
    float* const row = targets.rows[lane + i] + channel;
    if constexpr (V == 1) {
      StoreChannels(hn::Mul(sum[i][0], factor), row, list.channels - channel);
    } else {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) hn::StoreU(hn::Mul(sum[i][v], factor), d, row + v * kLanes);
    }
  }
}

#if HWY_TARGET == HWY_AVX3
inline constexpr int kAccumulators = 24;
#else
inline constexpr int kAccumulators = 12;
#endif

/// Queries of a register tile with V vectors of channels.
constexpr int MostQueries(int vectors) {
  const int most = kAccumulators / vectors;
  return most >= 8 ? 8 : most >= 6 ? 6 : most >= 4 ? 4 : most >= 3 ? 3 : 2;
}

/// At most MostQueries(V) queries of a run.
template <class A, int V, int N = 1>
HWY_INLINE void SumSomeQueries(const ValueList& list, const Run& run, int first, int count, int64_t window,
                               int64_t channel, const SumTargets& targets) {
  if constexpr (N <= MostQueries(V)) {
    if (count != N) return SumSomeQueries<A, V, N + 1>(list, run, first, count, window, channel, targets);
    switch (window) {
      case 3:
        return SumRun<A, N, V, 3>(list, run, first, window, channel, targets);
      case 5:
        return SumRun<A, N, V, 5>(list, run, first, window, channel, targets);
      case 7:
        return SumRun<A, N, V, 7>(list, run, first, window, channel, targets);
      default:
        return SumRun<A, N, V, 0>(list, run, first, window, channel, targets);
    }
  }
}

/// All channels of V vectors each from `channel` on, and all queries of a run. Returns the channel that comes next.
template <class A, int V>
HWY_INLINE int64_t SumChannels(const ValueList& list, const Run& run, int64_t window, int64_t channel,
                               const SumTargets& targets) {
  // One vector alone may be cut short.
  const int64_t last = list.channels - (V == 1 ? 1 : V * kLanes);
  for (; channel <= last; channel += V * kLanes) {
    // Windows that slide need as many columns as queries.
    const int most = run.sliding && window != 3 && window != 5 && window != 7
                         ? static_cast<int>(std::min<int64_t>(MostQueries(V), window))
                         : MostQueries(V);
    const int parts = (run.count + most - 1) / most;
    for (int part = 0; part < parts; ++part) {
      const int first = run.count * part / parts, count = run.count * (part + 1) / parts - first;
      SumSomeQueries<A, V>(list, run, first, count, window, channel, targets);
    }
  }
  return channel;
}

/// All channels of the queries of a run.
template <class A>
void HWY_ATTR Sums(const ValueList& list, const Run& run, int64_t window, const SumTargets& targets) {
  int64_t channel = SumChannels<A, 4>(list, run, window, 0, targets);
  channel = SumChannels<A, 2>(list, run, window, channel, targets);
  SumChannels<A, 1>(list, run, window, channel, targets);
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_BANDED_VALUES_INL_H_
