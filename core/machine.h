// The caches of a CPU: what the cost model sizes tiles by.
#pragma once

#include <cstdint>

namespace nalab {

/// Data caches that one core sees, in bytes; 0 if unknown.
struct Machine {
  int64_t l1d_bytes = 0;
  int64_t l2_bytes = 0;
  int64_t l3_bytes = 0;  ///< shared between cores

  bool operator==(const Machine&) const = default;
};

/// The machine that this process runs on, read once.
const Machine& host_machine();

}  // namespace nalab
