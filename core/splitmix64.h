// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#pragma once

#include <cstdint>

namespace nalab {

/// How far a sequence's counter goes from one number to the next.
inline constexpr uint64_t kSplitMix64Step = 0x9E3779B97F4A7C15u;

/// Turns a counter into independent bits: the same on every machine.
constexpr uint64_t splitmix64(uint64_t counter) {
  uint64_t x = counter + kSplitMix64Step;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace nalab
