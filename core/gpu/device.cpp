#include "core/gpu/device.h"

namespace nalab {

namespace {

const gpu::Backend* installed = nullptr;

}  // namespace

namespace gpu {

const Backend* backend() { return installed; }
void install_backend(const Backend& backend) { installed = &backend; }

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
