// Gives the executable a GPU: the emulator. NALAB_TEST_POWER_LIMIT is its power limit in W, NALAB_TEST_PEAK what is
// measured of it in FLOP/s.
#include "tests/core/gpu/emulated_gpu.h"

#include <cstdlib>

namespace nalab::gpu::test {
namespace {

const EmulatedGpu emulated = [] {
  EmulatedGpu gpu;
  if (const char* watts = std::getenv("NALAB_TEST_POWER_LIMIT")) gpu.info.power_limit_watts = std::atof(watts);
  if (const char* rate = std::getenv("NALAB_TEST_PEAK")) gpu.peak.all_threads = std::atof(rate);
  return gpu;
}();
[[maybe_unused]] const bool installed = (install_backend(emulated), true);

}  // namespace
}  // namespace nalab::gpu::test
