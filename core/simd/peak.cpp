// Peaks of one machine, from loops of independent operations on registers: enough of them to hide the latency of each
// (4 to 6 cycles, two a cycle), few enough for the 16 registers of AVX2.
#include "core/simd/peak.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>

#include "core/tensor/buffer.h"

// SSSE3 and SSE4 add nothing to the arithmetic here.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/simd/peak.cpp"
#include "hwy/foreach_target.h"
// Highway asks for this order.
#include "hwy/highway.h"

#if HWY_ARCH_X86 && HWY_ONCE
#include <immintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::HWY_NAMESPACE {

/// Multiply-adds of `rounds` rounds on one thread. Returns the FLOPs done; `sink` keeps them from being optimised away.
/// Named accumulators, since vectors of a length unknown at compile time cannot stand in arrays.
int64_t multiply_add(int64_t rounds, float* sink) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<float> d;
  const auto half = hn::Set(d, *sink);
  // Different starts: the compiler would make one chain of equal ones.
  auto a0 = hn::Iota(d, 0), a1 = hn::Iota(d, 1), a2 = hn::Iota(d, 2), a3 = hn::Iota(d, 3);
  auto b0 = hn::Iota(d, 4), b1 = hn::Iota(d, 5), b2 = hn::Iota(d, 6), b3 = hn::Iota(d, 7);
  auto c0 = hn::Iota(d, 8), c1 = hn::Iota(d, 9), c2 = hn::Iota(d, 10), c3 = hn::Iota(d, 11);
  for (int64_t i = 0; i < rounds; ++i) {
    a0 = hn::MulAdd(a0, half, half);
    a1 = hn::MulAdd(a1, half, half);
    a2 = hn::MulAdd(a2, half, half);
    a3 = hn::MulAdd(a3, half, half);
    b0 = hn::MulAdd(b0, half, half);
    b1 = hn::MulAdd(b1, half, half);
    b2 = hn::MulAdd(b2, half, half);
    b3 = hn::MulAdd(b3, half, half);
    c0 = hn::MulAdd(c0, half, half);
    c1 = hn::MulAdd(c1, half, half);
    c2 = hn::MulAdd(c2, half, half);
    c3 = hn::MulAdd(c3, half, half);
  }
  const auto a = hn::Add(hn::Add(a0, a1), hn::Add(a2, a3));
  const auto b = hn::Add(hn::Add(b0, b1), hn::Add(b2, b3));
  const auto c = hn::Add(hn::Add(c0, c1), hn::Add(c2, c3));
  *sink = hn::GetLane(hn::Add(hn::Add(a, b), c));
  return rounds * 12 * 2 * static_cast<int64_t>(hn::Lanes(d));
}

}  // namespace nalab::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab {
namespace {

constexpr int kRuns = 10;
constexpr int64_t kRounds = 50'000;       // 0.1 to 0.3 ms: a task
constexpr int64_t kTasksPerThread = 100;  // of a run

using Kernel = int64_t (*)(int64_t rounds, float* sink);

Kernel multiply_add_kernel(Isa isa) {
#if HWY_TARGETS & HWY_AVX3
  if (isa >= Isa::avx512) return N_AVX3::multiply_add;
#endif
#if HWY_TARGETS & HWY_AVX2
  if (isa >= Isa::avx2) return N_AVX2::multiply_add;
#endif
  static_cast<void>(isa);
  return HWY_STATIC_DISPATCH(multiply_add);
}

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

double best_rate_of_one_thread(Kernel kernel) {
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    int64_t flops = 0;
    const double elapsed = seconds([&] {
      float value = 0.5f;
      flops = kernel(kRounds * kTasksPerThread, &value);
      volatile float sink = value;
      static_cast<void>(sink);
    });
    best = std::max(best, static_cast<double>(flops) / elapsed);
  }
  return best;
}

double best_rate_of_all_threads(Kernel kernel, Workers& workers) {
  const int64_t tasks = kTasksPerThread * workers.threads();
  AlignedBuffer<int64_t> flops(tasks);
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
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

}  // namespace

PeakRate measure_fma_f32(Isa isa, Workers& workers) {
  const Kernel kernel = multiply_add_kernel(isa);
  return {best_rate_of_one_thread(kernel), best_rate_of_all_threads(kernel, workers)};
}

PeakRate measure_dot_bf16(Isa isa, Workers& workers) {
#if HWY_ARCH_X86
  if (isa >= Isa::avx512bf16) return {best_rate_of_one_thread(dot_bf16), best_rate_of_all_threads(dot_bf16, workers)};
#endif
  static_cast<void>(isa);
  static_cast<void>(workers);
  return {};
}

double measure_copy_bandwidth(Workers& workers, int64_t cache_bytes) {
  constexpr int64_t kChunk = int64_t{1} << 20;
  const int64_t chunks = std::clamp<int64_t>(4 * cache_bytes / kChunk, 64, 512);
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
