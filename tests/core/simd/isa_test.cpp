#include "core/simd/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "core/error.h"
#include "tests/core/support.h"

namespace nalab {
namespace {

TEST(Isa, NamesInAscendingOrder) {
  std::string names;
  for (Isa isa : all_isas()) names += std::string(name(isa)) + " ";
  EXPECT_EQ(names, "baseline avx2 avx512 avx512bf16 amx ");
}

TEST(Isa, EachOneContainsThoseBeforeIt) {
  EXPECT_TRUE(cpu_supports(Isa::baseline));
  EXPECT_TRUE(cpu_supports(best_isa()));
  bool lacking = false;
  for (Isa isa : all_isas()) {
    EXPECT_FALSE(lacking && cpu_supports(isa)) << name(isa);
    lacking = lacking || !cpu_supports(isa);
    EXPECT_TRUE(!cpu_supports(isa) || isa <= best_isa()) << name(isa);
    EXPECT_TRUE(isa == Isa::baseline ||
                features(isa).contains(features(all_isas()[static_cast<std::size_t>(isa) - 1])));
  }
}

TEST(CpuFeatures, AreAMaskInWhichNoFeatureImpliesAnother) {
  const CpuFeatures all[] = {CpuFeatures::avx2(), CpuFeatures::avx512(), CpuFeatures::avx512bf16(), CpuFeatures::amx()};
  for (const CpuFeatures& a : all) {
    EXPECT_TRUE(a.contains({}));
    EXPECT_FALSE(CpuFeatures{}.contains(a));
    for (const CpuFeatures& b : all) {
      EXPECT_EQ(a.contains(b), a == b);
      EXPECT_TRUE((a | b).contains(a) && (a | b).contains(b));
      EXPECT_EQ(a & b, a == b ? a : CpuFeatures{});
    }
  }
  EXPECT_EQ(features(Isa::baseline), CpuFeatures{});
  EXPECT_EQ(features(Isa::avx512bf16), all[0] | all[1] | all[2]);
  EXPECT_EQ(features(Isa::amx), all[0] | all[1] | all[2] | all[3]);
}

TEST(Isa, ParsesWhatTheCpuSupportsAndRefusesTheRest) {
  for (Isa isa : all_isas()) {
    const std::string text(name(isa));
    if (cpu_supports(isa)) {
      EXPECT_EQ(parse_isa(text), isa);
    } else {
      EXPECT_EQ(test::error_of([&] { parse_isa(text); }), "this CPU lacks the instruction set " + text);
    }
  }
}

TEST(Isa, RefusesUnknownNames) {
  for (const std::string text : {"", "AVX2", "sse2", "avx512 ", "avx"}) {
    EXPECT_EQ(test::error_of([&] { parse_isa(text); }),
              "instruction set '" + text + "' is none of baseline, avx2, avx512, avx512bf16, amx");
  }
}

TEST(Isa, EnvironmentForcesTheChoice) {
  const test::ScopedEnvironment environment("NALAB_ISA");
  environment.unset();
  EXPECT_EQ(choose_isa(), best_isa());
  environment.set("");
  EXPECT_EQ(choose_isa(), best_isa());
  for (Isa isa : all_isas()) {
    environment.set(std::string(name(isa)));
    if (cpu_supports(isa)) {
      EXPECT_EQ(choose_isa(), isa);
    } else {
      EXPECT_EQ(test::error_of(choose_isa), "this CPU lacks the instruction set " + std::string(name(isa)));
    }
  }
  environment.set("fast");
  EXPECT_EQ(test::error_of(choose_isa), "instruction set 'fast' is none of baseline, avx2, avx512, avx512bf16, amx");
}

}  // namespace
}  // namespace nalab
