#include "core/simd/target_probe.h"

#include <gtest/gtest.h>

#include <string>

namespace nalab {
namespace {

TEST(CompiledTarget, IsTheWidestThatTheLimitAllowsAndThisCpuHas) {
#if defined(__x86_64__)
  const std::string by_default(compiled_target(Isa::baseline));
#if !defined(__AVX2__)
  EXPECT_TRUE(by_default == "EMU128" || by_default == "SCALAR") << by_default;
#endif
  for (const Isa isa : all_isas()) {
    if (!cpu_supports(isa)) continue;
    const std::string widest = features(isa).contains(CpuFeatures::avx512()) ? "AVX3"
                               : features(isa).contains(CpuFeatures::avx2()) ? "AVX2"
                                                                             : by_default;
    EXPECT_EQ(compiled_target(isa), widest) << name(isa);
  }
#else
  for (const Isa isa : all_isas()) {
    if (cpu_supports(isa)) EXPECT_EQ(compiled_target(isa), compiled_target(Isa::baseline)) << name(isa);
  }
#endif
}

}  // namespace
}  // namespace nalab
