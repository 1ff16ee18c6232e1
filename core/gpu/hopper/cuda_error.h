// Errors of the CUDA runtime as the library's.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "core/error.h"

namespace nalab::gpu {

/// Throws Error that says what was being done.
inline void throw_on(cudaError_t status, const char* doing) {
  if (status != cudaSuccess) throw Error(std::string("CUDA, ") + doing + ": " + cudaGetErrorString(status));
}

}  // namespace nalab::gpu
