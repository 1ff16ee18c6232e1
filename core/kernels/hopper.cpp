// hopper and hopper_dense: fused attention on Hopper GPUs, forward (core/gpu/).
//
// A call copies its tensors to the GPU and back; Variant::open keeps them there. Self attention takes the tokens as a
// single axis, where no key is masked but in the last tile.
#include <memory>

#include "core/gpu/device.h"
#include "core/kernels/variants.h"

namespace nalab::hopper {

namespace {

std::optional<std::string> unsupported(const std::string& variant, const Problem& problem, Pass pass) {
  if (const auto reason = why_not_here(Device::cuda)) return variant + " " + *reason;
  if (pass != Pass::forward) return variant + " computes the forward pass only";
  if (const auto reason = gpu::cannot_plan(problem)) return variant + " " + *reason;
  if (const auto reason = gpu::backend()->unsupported(problem)) return variant + " " + *reason;
  return std::nullopt;
}

std::optional<std::string> supports(const Problem& problem, Pass pass) { return unsupported("hopper", problem, pass); }

std::optional<std::string> supports_dense(const Problem& problem, Pass pass) {
  if (!problem.is_self_attention()) {
    return "hopper_dense computes self attention only, and a window or a causal axis leaves tokens out";
  }
  return unsupported("hopper_dense", problem, pass);
}

bool takes(const Arithmetic& arithmetic, Pass pass) { return arithmetic.name == kWgmma && pass == Pass::forward; }

/// The problem that the tiles are made for: the device's copies of the tensors have no gaps.
Problem walked(const Problem& problem) {
  if (!problem.is_self_attention()) return problem;
  Problem row = problem;
  row.axes = {{.extent = problem.tokens(), .window = problem.tokens()}};
  return row;
}

PlanCost cost(const PlanChoice& choice) {
  const Problem problem = walked(choice.problem);
  const auto tiles = std::make_shared<const gpu::TilePlan>(gpu::make_tile_plan(problem, gpu::gpu_limits()));
  return {.executed_flops = gpu::executed_flops(*tiles, problem), .gpu_tiles = tiles};
}

std::unique_ptr<Resident> open(const Plan& plan, const Inputs& inputs) {
  return gpu::backend()->open(plan.problem(), walked(plan.problem()), plan.gpu_tiles(), inputs);
}

void forward(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution&) {
  const std::unique_ptr<Resident> call = open(plan, inputs);
  call->forward();
  call->download(outputs);
}

Variant with_kernels(Variant v) {
  v.device = Device::cuda;
  v.expected_flops_per_second = 500e12;
  v.takes = takes;
  v.cost = cost;
  v.forward = forward;
  v.open = open;
  return v;
}

}  // namespace

Variant variant() {
  Variant v;
  v.name = "hopper";
  v.paper_term = "fused neighborhood attention for Hopper GPUs (Generalized NA, 2504.16922, section 3)";
  v.summary = "Online softmax on tensor cores; boxes of keys begin where windows begin, each warpgroup skips its own.";
  v.supports = supports;
  return with_kernels(v);
}

Variant dense_variant() {
  Variant v;
  v.name = "hopper_dense";
  v.paper_term = "self attention (FMHA) on Hopper GPUs";
  v.summary = "Every query attends to every token: the baseline of speedups on a GPU.";
  v.self_attention_only = true;
  v.supports = supports_dense;
  return with_kernels(v);
}

}  // namespace nalab::hopper
