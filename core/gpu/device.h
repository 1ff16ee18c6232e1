// The GPU as far as the library knows it without CUDA.
//
// What needs CUDA is in a library of its own, nalab_gpu, that is linked into programs: the library itself, as it is
// built and installed, has no symbol of CUDA. The two meet here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/device.h"
#include "core/gpu/plan.h"
#include "core/simd/peak.h"

namespace nalab::gpu {

/// 0 and "" for what the driver does not tell.
struct GpuInfo {
  std::string name;
  GpuLimits limits = {};
  double clock_hz = 0;         ///< the greatest, of the multiprocessors
  double memory_clock_hz = 0;  ///< likewise
  int64_t memory_bytes = 0;
  double power_limit_watts = 0;  ///< above which it lowers its clocks
  std::string driver;            ///< version
};

/// What nalab_gpu has to offer.
class Backend {
 public:
  virtual ~Backend() = default;

  /// The GPU that calls run on; null if there is none with the instructions of sm_90.
  virtual const GpuInfo* gpu() const = 0;
  /// Why the kernels do not compute a valid problem, as the end of a sentence; nullopt if they do.
  virtual std::optional<std::string> unsupported(const Problem& problem) const = 0;
  /// Copies the inputs of a problem to the GPU. `walked` is the problem that the plan is for: the same, or the same
  /// with its tokens as a single axis.
  virtual std::unique_ptr<Resident> open(const Problem& problem, const Problem& walked, const TilePlan& plan,
                                         const Inputs& inputs) const = 0;
  /// What its tensor cores reach at most, measured in some tenths of a second: `one_thread` is one multiprocessor's.
  /// Throws Error.
  virtual PeakRate measure_peak() const = 0;
};

/// Null in a program without nalab_gpu.
const Backend* backend();
/// Called by nalab_gpu before main().
void install_backend(const Backend& backend);

/// What the backend measures. Requires a GPU. Throws Error if that is more than tensor cores can do at the GPU's clock.
PeakRate measure_peak();

/// The GPU of the backend, or an H100's limits where there is none: for plans.
GpuLimits gpu_limits();

}  // namespace nalab::gpu
