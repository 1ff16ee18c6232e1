// OpenMP's threads as a team of nalab's.
#pragma once

#include "core/parallel.h"

namespace nalab::python {

/// OpenMP's entry that compiled `#pragma omp parallel` calls: GNU's, which LLVM's and Intel's runtimes have too. None
/// for a null pointer.
inline Team team_of(void* gomp_parallel) {
  using Parallel = void (*)(void (*member)(void*), void* data, unsigned threads, unsigned flags);
  if (gomp_parallel == nullptr) return nullptr;
  return [parallel = reinterpret_cast<Parallel>(gomp_parallel)](void (*member)(void*), void* data, int threads) {
    parallel(member, data, static_cast<unsigned>(threads), 0);
  };
}

}  // namespace nalab::python
