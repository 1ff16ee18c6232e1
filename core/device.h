// Where variants compute, and tensors that stay there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/tensors.h"

namespace nalab {

enum class Device : uint8_t { cpu, cuda };

/// "cpu", "cuda"
std::string_view name(Device device);

/// Why nothing can be computed on a device here, as the end of a sentence: "needs a build with CUDA". nullopt if
/// something can.
std::optional<std::string> why_not_here(Device device);

/// A call whose tensors lie on another device: made once from inputs on the host, called often.
class Resident {
 public:
  virtual ~Resident() = default;

  /// Computes, and waits until the results are there. Returns the seconds that it took on the device. Throws Error.
  virtual double forward() = 0;
  /// Copies the results of the last call to the host.
  virtual void download(const Outputs& outputs) = 0;
};

}  // namespace nalab
