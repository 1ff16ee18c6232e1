#include "core/simd/amx.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace nalab {

namespace {

struct CpuId {
  uint32_t a = 0, b = 0, c = 0, d = 0;

  explicit CpuId(uint32_t leaf) { __get_cpuid_count(leaf, 0, &a, &b, &c, &d); }
};

constexpr bool all_bits(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

/// The parts of the state that the operating system saves.
uint64_t saved_state() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

bool detect() {
  constexpr uint32_t kOsSavesState = 1u << 27;              // leaf 1, ECX
  constexpr uint32_t kBf16 = 1u << 22, kTiles = 1u << 24;   // leaf 7, EDX
  constexpr uint64_t kConfig = 1u << 17, kData = 1u << 18;  // XCR0
  if (!all_bits(CpuId(1).c, kOsSavesState) || !all_bits(CpuId(7).d, kBf16 | kTiles)) return false;
  if (!all_bits(saved_state(), kConfig | kData)) return false;
  if (CpuId(0x1D).a < 1) return false;  // palettes: the first has 8 tiles of 16 rows of 64 bytes
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool may_use_amx() {
  static const bool may = detect();
  return may;
}

}  // namespace nalab

#else

namespace nalab {

bool may_use_amx() { return false; }

}  // namespace nalab

#endif
