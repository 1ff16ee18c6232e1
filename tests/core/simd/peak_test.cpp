#include "core/simd/peak.h"

#include <gtest/gtest.h>

#include <chrono>

#include "core/simd/probe.h"

namespace nalab {
namespace {

// No CPU does more: four 512-bit multiply-adds a cycle at 10 GHz. How fast this one is must not be a test.
constexpr double kImpossible = 4.0 * 16 * 2 * 10e9;

TEST(Peak, MultiplyAddRateIsPlausible) {
  Workers workers(2);
  for (Isa isa : all_isas()) {
    if (!cpu_supports(isa)) continue;
    const PeakRate rate = measure_fma_f32(isa, workers);
    EXPECT_GT(rate.one_thread, 0) << name(isa);
    EXPECT_LT(rate.one_thread, kImpossible) << name(isa);
    EXPECT_GT(rate.all_threads, 0) << name(isa);
    EXPECT_LT(rate.all_threads, 2 * kImpossible) << name(isa);
  }
}

TEST(Peak, RateOfDotProductsOfBfloat16IsPlausible) {
  if (!cpu_supports(Isa::avx512bf16)) GTEST_SKIP() << "this CPU lacks the instruction";
  Workers workers(2);
  const PeakRate rate = measure_dot_bf16(workers);
  EXPECT_GT(rate.one_thread, 0);
  EXPECT_LT(rate.one_thread, 2 * kImpossible);
  EXPECT_GT(rate.all_threads, 0);
  EXPECT_GT(ratio_of_dot_bf16_to_fma_f32(), 0);
}

TEST(Peak, CopyBandwidthIsPlausible) {
  Workers workers(2);
  const double rate = measure_copy_bandwidth(workers, int64_t{16} << 20);
  EXPECT_GT(rate, 0);
  EXPECT_LT(rate, 1e13);
}

TEST(Peak, WorkDoesNotGrowWithThreadsBeyondTheHardware) {
  // 64 times the work would take 64 times as long.
  const auto seconds = [](int threads) {
    Workers workers(threads);
    const auto start = std::chrono::steady_clock::now();
    measure_fma_f32(best_isa(), workers);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const int many = 64 * hardware_threads();
  if (many > kMaxThreads) GTEST_SKIP() << "too many threads to try";
  EXPECT_LT(seconds(many), 16 * seconds(hardware_threads()));
}

TEST(Peak, AShortProbeGivesThePeakOfAllThreads) {
  Workers workers(1);
  const double probed = probe_fma_f32(best_isa(), workers);
  EXPECT_GT(probed, 0);
  EXPECT_LT(probed, kImpossible);
}

TEST(Peak, CopiedArraysFitIntoAQuarterOfTheFreeMemory) {
  constexpr int64_t kMiB = int64_t{1} << 20, kMuch = int64_t{1} << 40;
  EXPECT_EQ(copied_bytes(0, kMuch), 64 * kMiB);
  EXPECT_EQ(copied_bytes(32 * kMiB, kMuch), 128 * kMiB);
  EXPECT_EQ(copied_bytes(1024 * kMiB, kMuch), 512 * kMiB);
  EXPECT_EQ(copied_bytes(32 * kMiB, 1024 * kMiB), 128 * kMiB);
  EXPECT_EQ(copied_bytes(32 * kMiB, 900 * kMiB), 112 * kMiB) << "whole MiB";
  EXPECT_EQ(copied_bytes(32 * kMiB, 511 * kMiB), 0) << "less than 64 MiB each";
  EXPECT_EQ(copied_bytes(128 * kMiB, 1000 * kMiB), 0) << "less than the cache each";
  EXPECT_EQ(copied_bytes(1024 * kMiB, 4096 * kMiB), 512 * kMiB);
}

}  // namespace
}  // namespace nalab
