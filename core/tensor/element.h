// Element types of tensors: float, bfloat16 and IEEE half, with conversions that round to nearest even.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace nalab {

enum class ElementType : uint8_t { f32, bf16, f16 };

/// bfloat16 storage: the upper half of a float.
struct bf16 {
  uint16_t bits = 0;
  bool operator==(const bf16&) const = default;
};

/// IEEE 754 binary16 storage.
struct f16 {
  uint16_t bits = 0;
  bool operator==(const f16&) const = default;
};

constexpr float to_float(float x) { return x; }

constexpr float to_float(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

constexpr float to_float(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = x.bits & 0x7FFFu;
  if (magnitude >= 0x7C00u) return std::bit_cast<float>(sign | 0x7F800000u | (magnitude & 0x3FFu) << 13);
  if (magnitude >= 0x0400u) return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
  // Subnormal: magnitude * 2^-24, exact in float.
  const float value = static_cast<float>(magnitude) * 0x1p-24f;
  return sign != 0 ? -value : value;
}

/// Round to nearest even. NaN stays NaN (made quiet); overflow goes to infinity; subnormals are kept.
template <class T>
constexpr T from_float(float x);

template <>
constexpr float from_float<float>(float x) {
  return x;
}

template <>
constexpr bf16 from_float<bf16>(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<uint16_t>((bits >> 16) | 0x0040u)};
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

template <>
constexpr f16 from_float<f16>(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return {static_cast<uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu))};
  // 65520 = halfway between the greatest finite half and the next power of two: rounds to infinity.
  if (magnitude >= std::bit_cast<uint32_t>(65520.0f)) return {static_cast<uint16_t>(sign | 0x7C00u)};
  if (magnitude >= std::bit_cast<uint32_t>(0x1p-14f)) {
    const uint32_t rebased = magnitude - (112u << 23);
    return {static_cast<uint16_t>(sign | ((rebased + 0xFFFu + ((rebased >> 13) & 1u)) >> 13))};
  }
  // Subnormal: the sum with 0.5 rounds to a multiple of 2^-24, and leaves the result in the low bits.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f)))};
}

constexpr int64_t size_of(ElementType type) { return type == ElementType::f32 ? 4 : 2; }

/// "f32", "bf16", "f16"
std::string_view name(ElementType type);
/// Throws Error for anything but the three names.
ElementType parse_element_type(std::string_view text);

template <class T>
struct element_type_of;
template <>
struct element_type_of<float> {
  static constexpr ElementType value = ElementType::f32;
};
template <>
struct element_type_of<bf16> {
  static constexpr ElementType value = ElementType::bf16;
};
template <>
struct element_type_of<f16> {
  static constexpr ElementType value = ElementType::f16;
};

/// Calls f with a value of the C++ type that stands for `type`.
template <class F>
decltype(auto) with_element_type(ElementType type, F&& f) {
  switch (type) {
    case ElementType::bf16:
      return f(bf16{});
    case ElementType::f16:
      return f(f16{});
    case ElementType::f32:
      break;
  }
  return f(float{});
}

}  // namespace nalab
