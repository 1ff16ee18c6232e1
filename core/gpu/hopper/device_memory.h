// Memory of the device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <new>

#include "core/gpu/hopper/cuda_error.h"

namespace nalab::gpu {

struct FreeDevice {
  void operator()(void* data) const { cudaFree(data); }
};
using DeviceMemory = std::unique_ptr<void, FreeDevice>;

/// Throws std::bad_alloc if the device has too little memory, Error if it refuses for another reason.
inline DeviceMemory allocate(std::size_t bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) throw std::bad_alloc();
  throw_on(status, "allocating memory of the device");
  return DeviceMemory(data);
}

}  // namespace nalab::gpu
