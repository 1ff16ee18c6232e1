#include "core/simd/arithmetic.h"

#include <array>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/gpu/device.h"

namespace nalab {

namespace {

/// bf16 dot products run at twice the rate of float32 multiply-adds on AMD Zen 4 and 5, and at half of it on a
/// fourth-generation Intel Xeon (71 against 144 GFLOP/s per core). So the two are measured on this CPU, once. The
/// margin keeps noise from deciding.
bool dot_products_are_faster() {
  constexpr double kMargin = 1.2;
  static const bool faster = ratio_of_dot_bf16_to_fma_f32() > kMargin;
  return faster;
}

bool bf16(ElementType type, Pass) { return type == ElementType::bf16; }
bool f32(ElementType type, Pass) { return type == ElementType::f32; }
bool always() { return true; }
/// Computes where it is asked for. Six products of parts win over one of floats on few threads, and not on a whole
/// processor whose cores share their units' power: docs/matrix_unit.md.
bool never() { return false; }

/// Six products of parts make one.
PeakRate measure_amx_f32(Isa, Workers& workers) {
  const PeakRate parts = measure_amx_bf16(workers);
  return {parts.one_thread / 6, parts.all_threads / 6};
}

constexpr std::array kArithmetics{
    Arithmetic{
        .name = kBf16Amx,
        .summary = "products of bf16 tiles on the matrix unit (AMX), summed in float32; weights are rounded to bf16",
        .needs = CpuFeatures::avx512() | CpuFeatures::amx(),
        .computes = bf16,
        .preferred = always,
        .measure_peak = [](Isa, Workers& workers) { return measure_amx_bf16(workers); },
        .matrix_parts = {1, 1},
    },
    Arithmetic{
        .name = kF32Amx3,
        .summary = "six products of three bf16 parts of float32 on the matrix unit (AMX), summed in float32",
        .needs = CpuFeatures::avx512() | CpuFeatures::amx(),
        .computes = f32,
        .preferred = never,
        .measure_peak = measure_amx_f32,
        .matrix_parts = {3, 3},
    },
    Arithmetic{
        .name = kBf16Dot,
        .summary = "dot products of bf16 pairs, summed in float32; weights are rounded to bf16",
        .needs = CpuFeatures::avx512() | CpuFeatures::avx512bf16(),
        .computes = bf16,
        .preferred = dot_products_are_faster,
        .measure_peak = [](Isa, Workers& workers) { return measure_dot_bf16(workers); },
        .matrix_parts = {0, 1},
    },
    Arithmetic{
        .name = kF32Fma,
        .summary = "float32 multiply-adds; bf16 and f16 are converted when they are loaded",
        .needs = {},
        .computes = [](ElementType, Pass) { return true; },
        .preferred = always,
        .measure_peak = measure_fma_f32,
    },
    Arithmetic{
        .name = kF64Scalar,
        .summary = "double precision, one operation after the other: the oracle's",
        .needs = {},
        .computes = [](ElementType, Pass) { return true; },
        .preferred = always,
        .measure_peak = nullptr,
    },
    Arithmetic{
        .name = kBf16AmxEmulated,
        .summary = "bf16_amx without the unit, for tests: slow",
        .needs = CpuFeatures::avx2(),
        .computes = bf16,
        .preferred = never,
        .measure_peak = nullptr,
        .matrix_parts = {1, 1},
    },
    Arithmetic{
        .name = kF32Amx3Emulated,
        .summary = "f32_amx3 without the unit, for tests: slow",
        .needs = CpuFeatures::avx2(),
        .computes = f32,
        .preferred = never,
        .measure_peak = nullptr,
        .matrix_parts = {3, 3},
    },
    Arithmetic{
        .name = kWgmma,
        .summary = "products of bf16 or f16 tiles on a Hopper GPU, summed in float32; weights are rounded to the type",
        .needs = {},
        .computes = [](ElementType type, Pass pass) { return type != ElementType::f32 && pass == Pass::forward; },
        .preferred = always,
        .measure_peak = [](Isa, Workers&) { return gpu::measure_peak(); },
        .device = Device::cuda,
    },
};

}  // namespace

std::span<const Arithmetic> arithmetics() { return kArithmetics; }

const Arithmetic& find_arithmetic(std::string_view name) {
  std::string names;
  for (const Arithmetic& arithmetic : arithmetics()) {
    if (arithmetic.name == name) return arithmetic;
    names += (names.empty() ? "" : ", ") + std::string(arithmetic.name);
  }
  throw Error("arithmetic '" + std::string(name) + "' is none of " + names);
}

bool available(const Arithmetic& arithmetic, Isa isa) {
  return !why_not_here(arithmetic.device) && (cpu_features() & features(isa)).contains(arithmetic.needs);
}

const Arithmetic* forced_arithmetic() {
  const char* text = std::getenv("NALAB_ARITHMETIC");
  return text == nullptr || *text == '\0' ? nullptr : &find_arithmetic(text);
}

}  // namespace nalab
