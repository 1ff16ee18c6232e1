#include "core/gpu/driver.h"

#include <dlfcn.h>

#include <memory>

namespace nalab::gpu {

namespace {

struct CloseLibrary {
  void operator()(void* library) const { dlclose(library); }
};

/// nvmlReturn_t; 0 is success.
using Status = int;

/// A function of the library; null if it has none of that name.
template <class Function>
Function* find(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

}  // namespace

DriverInfo ask_driver(const char* pci_bus) {
  const std::unique_ptr<void, CloseLibrary> library(dlopen("libnvidia-ml.so.1", RTLD_NOW));
  if (library == nullptr) return {};
  auto* const init = find<Status()>(library.get(), "nvmlInit_v2");
  auto* const shut_down = find<Status()>(library.get(), "nvmlShutdown");
  auto* const find_device = find<Status(const char*, void**)>(library.get(), "nvmlDeviceGetHandleByPciBusId_v2");
  auto* const power_limit = find<Status(void*, unsigned*)>(library.get(), "nvmlDeviceGetEnforcedPowerLimit");
  auto* const version = find<Status(char*, unsigned)>(library.get(), "nvmlSystemGetDriverVersion");
  if (!init || !shut_down || !find_device || !power_limit || !version || init() != 0) return {};
  DriverInfo info;
  void* device = nullptr;
  unsigned milliwatts = 0;
  if (find_device(pci_bus, &device) == 0 && power_limit(device, &milliwatts) == 0) {
    info.power_limit_watts = milliwatts * 1e-3;
  }
  char text[81] = {};
  if (version(text, sizeof text - 1) == 0) info.version = text;
  shut_down();
  return info;
}

}  // namespace nalab::gpu
