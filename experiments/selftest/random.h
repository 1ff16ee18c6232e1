// Random numbers that are the same on every machine and with every standard library.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <random>

#include "core/splitmix64.h"

namespace nalab::selftest {

class Random {
 public:
  explicit Random(std::initializer_list<uint64_t> seed) : bits_(mixed(seed)) {}

  /// In [0, 1).
  double uniform() { return static_cast<double>(bits_() >> 11) * 0x1p-53; }
  /// In [low, high].
  int64_t pick(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(bits_() % (static_cast<uint64_t>(high - low) + 1));
  }
  bool chance(double probability) { return uniform() < probability; }
  /// One of several.
  template <class List>
  decltype(auto) one_of(const List& list) {
    return list[static_cast<std::size_t>(pick(0, static_cast<int64_t>(list.size()) - 1))];
  }
  /// Of mean 0 and variance 1, in (-3, 3), nearly normal.
  double normal() { return 2 * (uniform() + uniform() + uniform()) - 3; }

 private:
  static std::mt19937_64 mixed(std::initializer_list<uint64_t> seed) {
    // Neighbouring seeds give unlike sequences.
    uint64_t x = 0;
    for (const uint64_t part : seed) x = splitmix64((x + part) * kSplitMix64Step);
    return std::mt19937_64(x);
  }

  std::mt19937_64 bits_;
};

}  // namespace nalab::selftest
