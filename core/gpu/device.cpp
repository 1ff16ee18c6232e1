#include "core/gpu/device.h"

#include "core/error.h"

namespace nalab {

namespace {

const gpu::Backend* installed = nullptr;

}  // namespace

namespace gpu {

const Backend* backend() { return installed; }
void install_backend(const Backend& backend) { installed = &backend; }

PeakRate measure_peak() {
  constexpr double kMostFlopsOfClock = 4096;  // of a multiprocessor: bf16 and f16 on Hopper
  const GpuInfo& info = *backend()->gpu();
  const PeakRate rate = backend()->measure_peak();
  const double most = kMostFlopsOfClock * info.clock_hz;
  if (rate.one_thread > most || rate.all_threads > info.limits.multiprocessors * most) {
    throw Error("the peak of the GPU's tensor cores was measured as more than its clock allows");
  }
  return rate;
}

GpuLimits gpu_limits() {
  const GpuInfo* info = installed != nullptr ? installed->gpu() : nullptr;
  return info != nullptr ? info->limits : GpuLimits{};
}

}  // namespace gpu

std::string_view name(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

std::optional<std::string> why_not_here(Device device) {
  if (device == Device::cpu) return std::nullopt;
  if (installed == nullptr) return "needs a build with CUDA";
  if (installed->gpu() == nullptr) return "needs an sm_90 GPU; none is here";
  return std::nullopt;
}

}  // namespace nalab
