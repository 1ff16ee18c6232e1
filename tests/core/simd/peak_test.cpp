#include "core/simd/peak.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace nalab
