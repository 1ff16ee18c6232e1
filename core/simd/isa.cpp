#include "core/simd/isa.h"

#include <array>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/simd/amx.h"
#include "hwy/targets.h"

namespace nalab {

std::span<const Isa> all_isas() {
  static constexpr std::array isas{Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512bf16, Isa::amx};
  return isas;
}

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512bf16:
      return "avx512bf16";
    case Isa::amx:
      return "amx";
    case Isa::baseline:
      break;
  }
  return "baseline";
}

CpuFeatures features(Isa isa) {
  CpuFeatures allowed;
  if (isa >= Isa::avx2) allowed = allowed | CpuFeatures::avx2();
  if (isa >= Isa::avx512) allowed = allowed | CpuFeatures::avx512();
  if (isa >= Isa::avx512bf16) allowed = allowed | CpuFeatures::avx512bf16();
  if (isa >= Isa::amx) allowed = allowed | CpuFeatures::amx();
  return allowed;
}

namespace {

CpuFeatures ask_cpu() {
  CpuFeatures found;
#if HWY_ARCH_X86
  const int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;  // that the CPU has and this build compiles
  if ((targets & HWY_AVX2) != 0) found = found | CpuFeatures::avx2();
  if ((targets & HWY_AVX3) != 0) {
    found = found | CpuFeatures::avx512();
    if (__builtin_cpu_supports("avx512bf16") != 0) found = found | CpuFeatures::avx512bf16();
    if (may_use_amx()) found = found | CpuFeatures::amx();
  }
#endif
  return found;
}

}  // namespace

CpuFeatures cpu_features() {
  // Asked once: a virtual machine takes tens of microseconds to answer.
  static const CpuFeatures found = ask_cpu();
  return found;
}

bool cpu_supports(Isa isa) { return cpu_features().contains(features(isa)); }

Isa best_isa() {
  Isa best = Isa::baseline;
  for (Isa isa : all_isas()) {
    if (cpu_supports(isa)) best = isa;
  }
  return best;
}

Isa parse_isa(std::string_view text) {
  std::string names;
  for (Isa isa : all_isas()) {
    if (text == name(isa)) {
      if (!cpu_supports(isa)) throw Error("this CPU lacks the instruction set " + std::string(text));
      return isa;
    }
    names += (names.empty() ? "" : ", ") + std::string(name(isa));
  }
  throw Error("instruction set '" + std::string(text) + "' is none of " + names);
}

Isa choose_isa() {
  const char* text = std::getenv("NALAB_ISA");
  return text == nullptr || *text == '\0' ? best_isa() : parse_isa(text);
}

}  // namespace nalab
