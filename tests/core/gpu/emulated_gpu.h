// A GPU that is the emulator.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/gpu/device.h"
#include "core/tensor/element.h"
#include "core/tensors.h"
#include "tests/core/gpu/emulator.h"

namespace nalab::gpu::test {

class EmulatedCall : public Resident {
 public:
  EmulatedCall(const Problem& walked, const TilePlan& plan, const Inputs& inputs)
      : walked_(walked), plan_(plan), inputs_(inputs) {}

  /// As long as a GPU of 1 GFLOP/s takes.
  double forward() override {
    result_ = emulate(plan_, walked_, inputs_);
    return static_cast<double>(executed_flops(plan_, walked_)) * 1e-9;
  }
  void download(const Outputs& outputs) override {
    put(result_.out, outputs.out);
    put(result_.lse, outputs.lse);
  }

 private:
  /// The view is contiguous.
  static void put(const std::vector<float>& values, const TensorView& view) {
    with_element_type(view.type, [&](auto element) {
      using T = decltype(element);
      std::ranges::transform(values, static_cast<T*>(view.data), [](float value) { return from_float<T>(value); });
    });
  }

  Problem walked_;
  TilePlan plan_;
  Inputs inputs_;
  Emulated result_;
};

class EmulatedGpu : public Backend {
 public:
  const GpuInfo* gpu() const override { return present ? &info : nullptr; }
  std::optional<std::string> unsupported(const Problem& problem) const override {
    if (problem.type == ElementType::f32) return "computes bf16 and f16 only";
    return std::nullopt;
  }
  std::unique_ptr<Resident> open(const Problem& problem, const Problem& walked, const TilePlan& plan,
                                 const Inputs& inputs) const override {
    walked_rank = walked.rank();
    opened = &plan;
    const bool is_same = walked.axes == problem.axes;
    return std::make_unique<EmulatedCall>(walked, plan, is_same ? inputs : flattened(problem, inputs));
  }
  PeakRate measure_peak() const override { return peak; }

  GpuInfo info{.name = "emulator",
               .clock_hz = 1e9,
               .memory_clock_hz = 2e9,
               .memory_bytes = int64_t{3} << 30,
               .power_limit_watts = 5,
               .driver = "1.2.3"};
  PeakRate peak{1e7, 1e9};
  bool present = true;
  mutable int walked_rank = 0;
  mutable const TilePlan* opened = nullptr;
};

}  // namespace nalab::gpu::test
