#include "core/simd/peak.h"

#include <gtest/gtest.h>

#include <map>

namespace nalab {
namespace {

// The bounds are wide, since other work may run beside this. No CPU does more: four 512-bit multiply-adds a cycle at 10
// GHz.
constexpr double kImpossible = 4.0 * 16 * 2 * 10e9;

TEST(Peak, MultiplyAddRateIsPlausibleAndGrowsWithTheVectors) {
  Workers workers(2);
  std::map<Isa, PeakRate> rates;
  for (Isa isa : all_isas()) {
    if (!cpu_supports(isa)) continue;
    rates[isa] = measure_fma_f32(isa, workers);
    EXPECT_GT(rates[isa].one_thread, 1e9) << name(isa);
    EXPECT_LT(rates[isa].one_thread, kImpossible) << name(isa);
    EXPECT_GT(rates[isa].all_threads, 0.2 * rates[isa].one_thread) << name(isa);
    EXPECT_LT(rates[isa].all_threads, 3 * rates[isa].one_thread) << name(isa);
  }
  if (cpu_supports(Isa::avx2)) {
    EXPECT_GT(rates[Isa::avx2].one_thread, 1.1 * rates[Isa::baseline].one_thread);
  }
}

TEST(Peak, DotProductsOfBfloat16ExistOnlyWhereTheInstructionDoes) {
  Workers workers(2);
  EXPECT_EQ(measure_dot_bf16(Isa::baseline, workers).one_thread, 0);
  EXPECT_EQ(measure_dot_bf16(Isa::avx512, workers).all_threads, 0);
  if (cpu_supports(Isa::avx512bf16)) {
    const PeakRate rate = measure_dot_bf16(Isa::avx512bf16, workers);
    EXPECT_GT(rate.one_thread, 1e9);
    EXPECT_LT(rate.one_thread, 2 * kImpossible);
    EXPECT_GT(rate.all_threads, 0.2 * rate.one_thread);
  }
}

TEST(Peak, CopyBandwidthIsPlausible) {
  Workers workers(2);
  const double rate = measure_copy_bandwidth(workers, int64_t{16} << 20);
  EXPECT_GT(rate, 1e8);
  EXPECT_LT(rate, 1e13);
}

}  // namespace
}  // namespace nalab
