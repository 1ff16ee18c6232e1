// How much memory this process held at most.
#pragma once

#include <cstdint>

namespace nalab::environment {

/// From now on peak_memory_bytes() counts. Returns false if the system does not allow it.
bool reset_peak_memory();

/// The most that the process held resident at a time since it was reset, or since its start; 0 if the system does not
/// tell.
int64_t peak_memory_bytes();

}  // namespace nalab::environment
