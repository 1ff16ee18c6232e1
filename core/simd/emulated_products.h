// What emulated matrix units count, for tests.
#pragma once

#include <atomic>
#include <cstdint>

namespace nalab::simd {

/// Products of tiles that the emulated units of this process have computed; a unit adds its own when it is closed.
inline std::atomic<int64_t> emulated_products = 0;

}  // namespace nalab::simd
