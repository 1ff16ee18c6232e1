// The ways to multiply that kernels are written for, as a table: what each needs, computes and reaches.
#pragma once

#include <span>
#include <string_view>

#include "core/device.h"
#include "core/parallel.h"
#include "core/problem.h"
#include "core/simd/isa.h"
#include "core/simd/peak.h"

namespace nalab {

/// One row of the table. Each variant says which of them it is written for (Variant::takes).
struct Arithmetic {
  std::string_view name;  ///< stored with each row of results, and the key of its peak
  std::string_view summary;
  CpuFeatures needs;
  /// Whether it computes a pass of problems of an element type.
  bool (*computes)(ElementType type, Pass pass);
  /// Whether it is the faster choice on this CPU, with the reason beside the function. Asked only of CPUs that have
  /// what it needs.
  bool (*preferred)();
  /// Its measured peak where it is available, within a limit that allows what it needs. Null if nobody asks how close
  /// to a peak it comes.
  PeakRate (*measure_peak)(Isa isa, Workers& workers);
  /// Parts of 16 bits that an element has where tiles are multiplied on a matrix unit, or on what stands for one, and
  /// query tiles have 32 queries; 0 elsewhere.
  struct {
    int forward = 0, backward = 0;
  } matrix_parts = {};
  /// Of the variants that are written for it.
  Device device = Device::cpu;

  int parts(Pass pass) const { return pass == Pass::forward ? matrix_parts.forward : matrix_parts.backward; }
};

inline constexpr std::string_view kBf16Amx = "bf16_amx";
inline constexpr std::string_view kBf16AmxEmulated = "bf16_amx_emulated";
inline constexpr std::string_view kF32Amx3 = "f32_amx3";
inline constexpr std::string_view kF32Amx3Emulated = "f32_amx3_emulated";
inline constexpr std::string_view kF32Fma = "f32_fma";
inline constexpr std::string_view kBf16Dot = "bf16_dot";
inline constexpr std::string_view kF64Scalar = "f64_scalar";
inline constexpr std::string_view kWgmma = "wgmma";

/// All arithmetics, in order of preference.
std::span<const Arithmetic> arithmetics();
/// Throws Error that lists the names if there is no such arithmetic.
const Arithmetic& find_arithmetic(std::string_view name);
/// Whether this CPU and a limit, or the device, have what the arithmetic needs.
bool available(const Arithmetic& arithmetic, Isa isa);
/// The arithmetic that NALAB_ARITHMETIC names, used wherever it is available and computes the problem; null if unset.
/// Throws Error as find_arithmetic does.
const Arithmetic* forced_arithmetic();

}  // namespace nalab
