// The forward pass on Hopper GPUs: fused neighborhood attention on tensors that are on the device. Free of CUDA's
// types.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/gpu/plan.h"
#include "core/tensors.h"

namespace nalab::gpu::hopper {

/// Why the kernels do not compute a valid problem, as a sentence; nullopt if they do.
std::optional<std::string> unsupported(const Problem& problem);

/// A forward call that is ready to run on the current device: its plan and tensor maps are there.
class Forward {
 public:
  /// Views of device memory, as check() wants them; out has the problem's element type. Data and strides of all but the
  /// channels are multiples of 16 bytes, those of lse excepted. Throws Error if that is not so, if no kernel is
  /// compiled for the plan's shape, or if the device refuses; std::bad_alloc if its memory is too small.
  Forward(const Problem& problem, const TilePlan& plan, const Inputs& inputs, const Outputs& outputs);
  ~Forward();
  Forward(const Forward&) = delete;
  Forward& operator=(const Forward&) = delete;

  /// Starts the call on a stream (cudaStream_t), and returns. Calls of one object must not run at the same time, on two
  /// streams say: they share what counts their items. Throws Error if it does not start.
  void run(void* stream) const;
  /// Groups of 16 queries that the last call has computed twice, because a result was not finite or lse was huge: 0 on
  /// ordinary data. Waits for the call.
  int64_t recomputed() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nalab::gpu::hopper
