// What the NVIDIA driver's management library (NVML) says of a GPU. It is looked for at run time: CUDA does not need
// it.
#pragma once

#include <string>

namespace nalab::gpu {

/// 0 and "" where the library is missing or does not tell.
struct DriverInfo {
  double power_limit_watts = 0;  ///< the one that is enforced
  std::string version;           ///< "580.159.04"
};

/// Of the GPU on this PCI bus, as cudaDeviceGetPCIBusId writes it.
DriverInfo ask_driver(const char* pci_bus);

}  // namespace nalab::gpu
