#include "core/tensor/element.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "core/error.h"

namespace nalab {
namespace {

/// A binary floating-point format, to convert into it slowly and independently of the bits.
struct Format {
  int fraction_bits;  ///< stored bits of the significand
  int least_exponent;
  double greatest;
};
template <class T>
constexpr Format format_of();
template <>
constexpr Format format_of<bf16>() {
  return {7, -126, 0x1.FEp127};
}
template <>
constexpr Format format_of<f16>() {
  return {10, -14, 65504.0};
}

/// x rounded to the nearest multiple of the format's spacing at x, to the even one of two equally near. Finite x only.
double rounded(const Format& format, double x) {
  if (x == 0) return x;
  const int exponent = std::max(std::ilogb(x), format.least_exponent);
  const double multiple = std::ldexp(x, format.fraction_bits - exponent);
  double below = std::floor(multiple);
  const double remainder = multiple - below;
  if (remainder > 0.5 || (remainder == 0.5 && std::fmod(below, 2.0) != 0)) below += 1;
  const double result = std::ldexp(below, exponent - format.fraction_bits);
  if (std::abs(result) > format.greatest) return std::copysign(std::numeric_limits<double>::infinity(), x);
  return std::copysign(result, x);
}

template <class T>
void check_rounding(float x) {
  const double got = to_float(from_float<T>(x));
  const double expected = rounded(format_of<T>(), x);
  ASSERT_EQ(got, expected) << "for " << std::hexfloat << x;
  ASSERT_EQ(std::signbit(got), std::signbit(expected)) << "for " << std::hexfloat << x;
}

float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }

template <class T>
class Half : public ::testing::Test {};
using HalfTypes = ::testing::Types<bf16, f16>;
TYPED_TEST_SUITE(Half, HalfTypes);

TYPED_TEST(Half, EveryValueSurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const TypeParam value{static_cast<uint16_t>(bits)};
    const float x = to_float(value);
    const TypeParam back = from_float<TypeParam>(x);
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(to_float(back))) << bits;
      ASSERT_EQ(back.bits & 0x8000u, bits & 0x8000u) << bits;
    } else {
      ASSERT_EQ(back, value) << bits;
    }
  }
}

// The value of every bit pattern, from sign, exponent and fraction.
TYPED_TEST(Half, EveryBitPatternHasItsValue) {
  constexpr Format kFormat = format_of<TypeParam>();
  const uint32_t fractions = 1u << kFormat.fraction_bits;
  const uint32_t exponents = 32768u / fractions;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const uint32_t exponent = (bits & 0x7FFFu) / fractions;
    const uint32_t fraction = bits % fractions;
    const double x = to_float(TypeParam{static_cast<uint16_t>(bits)});
    ASSERT_EQ(std::signbit(x), bits >= 0x8000u) << bits;
    if (exponent == exponents - 1) {
      ASSERT_TRUE(fraction == 0 ? std::isinf(x) : std::isnan(x)) << bits;
      continue;
    }
    const double significand = (exponent > 0 ? fractions : 0u) + static_cast<double>(fraction);
    const int power = kFormat.least_exponent + std::max(static_cast<int>(exponent) - 1, 0) - kFormat.fraction_bits;
    ASSERT_EQ(std::abs(x), std::ldexp(significand, power)) << bits;
  }
}

// Every upper half of a float with lower halves on, below and above each possible tie.
TYPED_TEST(Half, RoundsToNearestEvenAtAllBoundaries) {
  for (uint32_t upper = 0; upper < 65536; ++upper) {
    if ((upper & 0x7F80u) == 0x7F80u) continue;
    for (uint32_t middle = 0; middle < 8; ++middle) {
      for (uint32_t low : {0x0000u, 0x0001u, 0x0FFFu, 0x1000u, 0x1001u, 0x1FFFu}) {
        ASSERT_NO_FATAL_FAILURE(check_rounding<TypeParam>(float_of(upper << 16 | middle << 13 | low)));
      }
    }
  }
}

TYPED_TEST(Half, RoundsToNearestEvenAtRandom) {
  std::mt19937 random(3);
  for (int i = 0; i < 1000000; ++i) {
    const float x = float_of(static_cast<uint32_t>(random()));
    if (!std::isfinite(x)) continue;
    ASSERT_NO_FATAL_FAILURE(check_rounding<TypeParam>(x));
  }
}

TYPED_TEST(Half, NotANumberStaysAndInfinityStays) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_float(from_float<TypeParam>(kInfinity)), kInfinity);
  EXPECT_EQ(to_float(from_float<TypeParam>(-kInfinity)), -kInfinity);
  for (uint32_t sign : {0u, 0x80000000u}) {
    // Payloads in the bits that are kept, in those that are cut off, quiet and signalling, and all bits set.
    for (uint32_t payload : {0x000001u, 0x001000u, 0x00FFFFu, 0x010000u, 0x200000u, 0x3FFFFFu, 0x400000u, 0x7FFFFFu}) {
      const float nan = float_of(sign | 0x7F800000u | payload);
      const auto bits = from_float<TypeParam>(nan).bits;
      EXPECT_TRUE(std::isnan(to_float(TypeParam{bits}))) << std::hex << payload;
      EXPECT_EQ(bits >> 15, sign >> 31) << std::hex << payload;
    }
  }
}

TEST(Bf16, Overflow) {
  EXPECT_EQ(to_float(from_float<bf16>(0x1.FEp127f)), 0x1.FEp127f);
  EXPECT_EQ(to_float(from_float<bf16>(0x1.FEFFFEp127f)), 0x1.FEp127f);
  EXPECT_TRUE(std::isinf(to_float(from_float<bf16>(0x1.FFp127f)))) << "the tie with the next power of two";
  EXPECT_TRUE(std::isinf(to_float(from_float<bf16>(std::numeric_limits<float>::max()))));
}

TEST(F16, OverflowAndSubnormals) {
  EXPECT_EQ(to_float(from_float<f16>(65504.0f)), 65504.0f);
  EXPECT_EQ(to_float(from_float<f16>(65519.996f)), 65504.0f);
  EXPECT_TRUE(std::isinf(to_float(from_float<f16>(65520.0f))));
  EXPECT_EQ(to_float(from_float<f16>(-1e30f)), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(from_float<f16>(0x1p-24f).bits, 1);
  EXPECT_EQ(from_float<f16>(0x1p-25f).bits, 0) << "a tie goes to the even zero";
  EXPECT_EQ(from_float<f16>(0x1.000002p-25f).bits, 1);
  EXPECT_EQ(from_float<f16>(0x1.8p-24f).bits, 2) << "a tie goes to the even two";
  EXPECT_EQ(from_float<f16>(-0x1p-25f).bits, 0x8000) << "with its sign";
  EXPECT_EQ(from_float<f16>(0x1.FFFp-15f).bits, 0x0400) << "the greatest subnormal rounds up to a normal number";
}

TEST(ElementType, NamesAndSizes) {
  for (ElementType type : {ElementType::f32, ElementType::bf16, ElementType::f16}) {
    EXPECT_EQ(parse_element_type(name(type)), type);
    const ElementType seen =
        with_element_type(type, [](auto element) { return element_type_of<decltype(element)>::value; });
    EXPECT_EQ(seen, type);
    const std::size_t size = with_element_type(type, [](auto element) { return sizeof(element); });
    EXPECT_EQ(size, static_cast<std::size_t>(size_of(type)));
  }
  EXPECT_EQ(name(ElementType::f32), "f32");
  EXPECT_EQ(name(ElementType::bf16), "bf16");
  EXPECT_EQ(name(ElementType::f16), "f16");
}

TEST(ElementType, UnknownNamesAreRefused) {
  for (const std::string text : {"", "F32", "float", "bf16 ", "f64"}) {
    try {
      parse_element_type(text);
      ADD_FAILURE() << "'" << text << "' was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), "element type '" + text + "' is none of f32, bf16, f16");
    }
  }
}

static_assert(from_float<bf16>(1.0f).bits == 0x3F80);
static_assert(from_float<f16>(1.0f).bits == 0x3C00);
static_assert(to_float(f16{0x0001}) == 0x1p-24f);

}  // namespace
}  // namespace nalab
