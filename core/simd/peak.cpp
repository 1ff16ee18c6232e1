// Peaks of one machine, from loops of independent operations on registers: enough of them to hide the latency of each
// (4 to 6 cycles, two a cycle), few enough for the 16 registers of AVX2.
#include "core/simd/peak.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>

#include "core/simd/probe.h"
#include "core/tensor/buffer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/simd/peak.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "core/simd/matrix_unit-inl.h"
#include "hwy/highway.h"

#if HWY_ARCH_X86 && HWY_ONCE
#include <immintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
// Highway 1.0 has no vectors for a baseline of SSE2: the compiler's own.
using Vector = float __attribute__((vector_size(16)));
inline Vector AllOf(float x) { return Vector{} + x; }
inline Vector MulAdd(Vector a, Vector b, Vector c) { return a * b + c; }
inline Vector Add(Vector a, Vector b) { return a + b; }
inline float GetLane(Vector a) { return a[0]; }
inline int64_t lanes() { return 4; }
#else
namespace hn = hwy::HWY_NAMESPACE;
using hn::Add, hn::GetLane, hn::MulAdd;
inline HWY_ATTR auto AllOf(float x) { return hn::Set(hn::ScalableTag<float>(), x); }
inline HWY_ATTR int64_t lanes() { return static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>())); }
#endif

/// Multiply-adds of `rounds` rounds on one thread. Returns the FLOPs done; `sink` keeps them from being optimised away.
/// Named accumulators, since vectors of a length unknown at compile time cannot be put in arrays. Their starts differ:
/// of equal ones the compiler would make one chain.
int64_t multiply_add(int64_t rounds, float* sink) {
  const auto half = AllOf(*sink);
  auto a0 = AllOf(0), a1 = AllOf(1), a2 = AllOf(2), a3 = AllOf(3);
  auto b0 = AllOf(4), b1 = AllOf(5), b2 = AllOf(6), b3 = AllOf(7);
  auto c0 = AllOf(8), c1 = AllOf(9), c2 = AllOf(10), c3 = AllOf(11);
  for (int64_t i = 0; i < rounds; ++i) {
    a0 = MulAdd(a0, half, half);
    a1 = MulAdd(a1, half, half);
    a2 = MulAdd(a2, half, half);
    a3 = MulAdd(a3, half, half);
    b0 = MulAdd(b0, half, half);
    b1 = MulAdd(b1, half, half);
    b2 = MulAdd(b2, half, half);
    b3 = MulAdd(b3, half, half);
    c0 = MulAdd(c0, half, half);
    c1 = MulAdd(c1, half, half);
    c2 = MulAdd(c2, half, half);
    c3 = MulAdd(c3, half, half);
  }
  *sink =
      GetLane(Add(Add(Add(Add(a0, a1), Add(a2, a3)), Add(Add(b0, b1), Add(b2, b3))), Add(Add(c0, c1), Add(c2, c3))));
  return rounds * 12 * 2 * lanes();
}

/// As multiply_add, on the matrix unit: a register tile of 32 rows times 32 columns, whose operands stay in the
/// first-level cache. Shorter, since a product of tiles takes as long as 32 multiply-adds.
int64_t multiply_tiles(int64_t rounds, float* sink) {
#if HWY_TARGET == HWY_AVX3
  constexpr int kTileCells = simd::kUnitRows * simd::kUnitCells, kSteps = 4;
  // Cells of two bf16 each with a magnitude from 1 to 2: the bits of their fractions and signs are what counts.
  alignas(64) float operands[4 * kSteps * kTileCells];
  uint32_t random = 1;
  for (float& cell : operands) {
    random = random * 1664525u + 1013904223u;
    const uint32_t bits = (random & 0x807F807Fu) | 0x3F803F80u;
    std::memcpy(&cell, &bits, sizeof cell);
  }
  const int64_t blocks = rounds / 32;
  simd::HWY_NAMESPACE::AmxUnit unit;
  unit.Zero<0>();
  unit.Zero<1>();
  unit.Zero<2>();
  unit.Zero<3>();
  for (int64_t i = 0; i < blocks * kSteps; ++i) {
    const float* const step = operands + i % kSteps * 4 * kTileCells;
    unit.Load<4>(step, simd::kUnitCells);
    unit.Load<5>(step + kTileCells, simd::kUnitCells);
    unit.Load<6>(step + 2 * kTileCells, simd::kUnitCells);
    unit.Load<7>(step + 3 * kTileCells, simd::kUnitCells);
    unit.MultiplyAdd<0, 4, 6>();
    unit.MultiplyAdd<1, 4, 7>();
    unit.MultiplyAdd<2, 5, 6>();
    unit.MultiplyAdd<3, 5, 7>();
  }
  unit.Store<0>(operands, simd::kUnitCells);
  *sink = operands[0];
  return blocks * kSteps * 4 * 2 * simd::kUnitRows * simd::kUnitCells * 2 * simd::kUnitCells;
#else
  static_cast<void>(rounds);
  static_cast<void>(sink);
  return 0;
#endif
}

}  // namespace nalab::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab {
namespace {

constexpr int kRuns = 10;
constexpr int64_t kRounds = 50'000;           // 0.1 to 0.3 ms: a task
constexpr int64_t kTasksPerThread = 100;      // of a run
constexpr int64_t kChunk = int64_t{1} << 20;  // bytes that a task copies

using Kernel = int64_t (*)(int64_t rounds, float* sink);

#if HWY_ARCH_X86
/// As multiply_add. By intrinsics: Highway 1.0 has no dot product of bfloat16 pairs on x86.
__attribute__((target("avx512f,avx512bf16"))) int64_t dot_bf16(int64_t rounds, float* sink) {
  constexpr int kAccumulators = 16;
  const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(*sink), _mm512_set1_ps(*sink));
  __m512 sums[kAccumulators];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, x, x);
  }
  for (const __m512& sum : sums) *sink += _mm512_cvtss_f32(sum);
  return rounds * kAccumulators * 32 * 2;
}
#endif

template <class Body>
double seconds(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// FLOP/s of one call.
double rate_of(Kernel kernel, int64_t rounds) {
  int64_t flops = 0;
  const double elapsed = seconds([&] {
    float value = 0.5f;
    flops = kernel(rounds, &value);
    volatile float sink = value;
    static_cast<void>(sink);
  });
  return static_cast<double>(flops) / elapsed;
}

double best_rate_of_one_thread(Kernel kernel) {
  double best = 0;
  for (int run = 0; run < kRuns; ++run) best = std::max(best, rate_of(kernel, kRounds * kTasksPerThread));
  return best;
}

double best_rate_of_all_threads(Kernel kernel, Workers& workers, int runs = kRuns,
                                int64_t tasks_per_thread = kTasksPerThread) {
  const int64_t tasks = tasks_per_thread * std::min(workers.threads(), hardware_threads());
  AlignedBuffer<int64_t> flops(tasks);
  double best = 0;
  for (int run = 0; run < runs; ++run) {
    const double elapsed = seconds([&] {
      workers.for_each(tasks, [&](int64_t task, int) {
        float value = 0.5f;
        flops[task] = kernel(kRounds, &value);
        volatile float sink = value;
        static_cast<void>(sink);
      });
    });
    best = std::max(best, static_cast<double>(flops[0] * tasks) / elapsed);
  }
  return best;
}

/// Of an array that is copied, where there is enough memory.
int64_t wanted_bytes(int64_t cache_bytes) { return std::clamp<int64_t>(4 * cache_bytes / kChunk, 64, 512) * kChunk; }

}  // namespace

PeakRate measure_fma_f32(Isa isa, Workers& workers) {
  const Kernel kernel = NALAB_SELECT(isa, multiply_add);
  return {best_rate_of_one_thread(kernel), best_rate_of_all_threads(kernel, workers)};
}

double probe_fma_f32(Isa isa, Workers& workers) {
  constexpr int kShortRuns = 3;
  constexpr int64_t kFewTasks = 10;
  return best_rate_of_all_threads(NALAB_SELECT(isa, multiply_add), workers, kShortRuns, kFewTasks);
}

PeakRate measure_amx_bf16(Workers& workers) {
  const Kernel kernel = NALAB_SELECT(Isa::amx, multiply_tiles);
  return {best_rate_of_one_thread(kernel), best_rate_of_all_threads(kernel, workers)};
}

#if HWY_ARCH_X86

PeakRate measure_dot_bf16(Workers& workers) {
  return {best_rate_of_one_thread(dot_bf16), best_rate_of_all_threads(dot_bf16, workers)};
}

double ratio_of_dot_bf16_to_fma_f32() {
  constexpr int64_t kShortRounds = 2'000;  // 10 to 30 us
  const Kernel multiply_adds = NALAB_SELECT(Isa::avx512, multiply_add);
  double dots = 0, adds = 0;
  for (int run = 0; run < kRuns; ++run) {
    dots = std::max(dots, rate_of(dot_bf16, kShortRounds));
    adds = std::max(adds, rate_of(multiply_adds, kShortRounds));
  }
  return dots / adds;
}

#else

PeakRate measure_dot_bf16(Workers&) { return {}; }
double ratio_of_dot_bf16_to_fma_f32() { return 0; }

#endif

int64_t copied_bytes(int64_t cache_bytes, int64_t free_bytes) {
  const int64_t wanted = wanted_bytes(cache_bytes);
  const int64_t least = std::min(wanted, std::max(cache_bytes, 64 * kChunk));
  const int64_t share = free_bytes / 8 / kChunk * kChunk;
  return share < least ? 0 : std::min(share, wanted);
}

double measure_copy_bandwidth(Workers& workers, int64_t cache_bytes) {
  const int64_t chunks = wanted_bytes(cache_bytes) / kChunk;
  AlignedBuffer<std::byte> from(chunks * kChunk), to(chunks * kChunk);
  // Memory that was never written is one page of zeros, which a cache holds.
  workers.for_each(chunks, [&](int64_t chunk, int) {
    std::memset(from.data() + chunk * kChunk, 1, kChunk);
    std::memset(to.data() + chunk * kChunk, 2, kChunk);
  });
  double best = 0;
  for (int run = 0; run < kRuns / 2; ++run) {
    const double elapsed = seconds([&] {
      workers.for_each(chunks, [&](int64_t chunk, int) {
        std::memcpy(to.data() + chunk * kChunk, from.data() + chunk * kChunk, kChunk);
      });
    });
    best = std::max(best, 2.0 * static_cast<double>(chunks * kChunk) / elapsed);
  }
  return best;
}

}  // namespace nalab
#endif
