// Numbers for people: three digits and a unit.
#pragma once

#include <cstdint>
#include <string>

namespace nalab::plan {

/// "1.61 GB" (powers of 1000)
std::string bytes_text(int64_t bytes);
/// "12.3 GFLOP"
std::string flops_text(int64_t flops);
/// "85.1 us", "1.20 s", "3 min 20 s"
std::string seconds_text(double seconds);

}  // namespace nalab::plan
