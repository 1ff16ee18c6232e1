// Gives the executable a GPU: the emulator. NALAB_TEST_POWER_LIMIT is its power limit in W.
#include "tests/core/gpu/emulated_gpu.h"

#include <cstdlib>

namespace nalab::gpu::test {
namespace {

const EmulatedGpu emulated = [] {
  EmulatedGpu gpu;
  if (const char* watts = std::getenv("NALAB_TEST_POWER_LIMIT")) gpu.info.power_limit_watts = std::atof(watts);
  return gpu;
}();
[[maybe_unused]] const bool installed = (install_backend(emulated), true);

}  // namespace
}  // namespace nalab::gpu::test
