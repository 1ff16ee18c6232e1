// The backward pass of fused: one pass over tiles, five products, from the saved lse; weights never in memory.
//
// A task is a super tile of queries, as in the forward pass: scores are computed again, dq is the task's own, and dk
// and dv of a block of keys are summed over the super tile in private memory before they are added to those of the
// whole tensor. A key's sum is taken in the order of the tasks: a task that comes to add to keys waits until all
// earlier ones that could touch them are past them (core/ordered_tasks.h). Tasks that share keys walk over them in the
// same order, one behind the other, so they seldom wait long. This needs no atomics on floats and no copy of dk and dv
// for each thread, and gives the same bits for every number of threads. drpb is summed over a super tile in private
// memory too; at its end a task adds its part to that of the whole head, after all earlier tasks of the head.
//
// The alternative, a second pass by keys over the inverse window, computes scores and dout v^T twice: seven products
// instead of five.
#include "core/kernels/fused/backward_sums.h"
#include "core/kernels/fused/fused.h"
#include "core/kernels/tile/gradient_sums.h"
#include "core/ordered_tasks.h"
#include "core/tensor/workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/fused/backward.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <type_traits>
#include "core/kernels/fused/backward_task-inl.h"
#include "core/kernels/fused/float_products-inl.h"
#include "core/kernels/fused/matrix_products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

using namespace tile::HWY_NAMESPACE;

template <class Products>
int64_t GradientBytesOf(const Problem& problem, const Tiling& tiling) {
  return carved_bytes([&](WorkspaceCutter& cutter) { GradientPrivate<Products>(problem, tiling, cutter); });
}

/// Calls body with the type of an arithmetic's products, for the lanes of a tiling.
template <class Body>
void WithProducts(std::string_view arithmetic, const Tiling& tiling, const Body& body) {
#if HWY_TARGET == HWY_AVX3
  if (arithmetic == kBf16Dot) return body(std::type_identity<MatrixProducts<DotUnit, 1>>());
  if (arithmetic == kBf16Amx) return body(std::type_identity<MatrixProducts<AmxUnit, 1>>());
  if (arithmetic == kF32Amx3) return body(std::type_identity<MatrixProducts<AmxUnit, 3>>());
#endif
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  if (arithmetic == kBf16AmxEmulated) return body(std::type_identity<MatrixProducts<EmulatedUnit, 1>>());
  if (arithmetic == kF32Amx3Emulated) return body(std::type_identity<MatrixProducts<EmulatedUnit, 3>>());
#endif
  static_cast<void>(arithmetic);
  tiling.lanes == 32 ? body(std::type_identity<FloatProducts<32>>()) : body(std::type_identity<FloatProducts<16>>());
}

int64_t GradientBytes(std::string_view arithmetic, const Problem& problem, const Tiling& tiling) {
  int64_t bytes = 0;
  WithProducts(arithmetic, tiling,
               [&](auto products) { bytes = GradientBytesOf<typename decltype(products)::type>(problem, tiling); });
  return bytes;
}

template <class Products>
void BackwardOf(const BackwardShared& shared, std::byte* workspace) {
  const BackwardCall& call = shared.call;
  const WorkerMemory memory{workspace, GradientBytesOf<Products>(call.problem, call.tiling)};
  OrderedTasks tasks(call.execution.workers);
  tasks.for_each(shared.supers.count(), [&](const OrderedTasks::Task& task) HWY_ATTR {
    const tile::SuperTile super = shared.supers.at(shared.order(task.number()));
    if (geometry::size(super.tokens) == 0) return;
    WorkspaceCutter cutter = memory.of(task.worker());
    GradientPrivate<Products> mine(call.problem, call.tiling, cutter);
    if (BackwardTask<Products>(shared, super, task, mine).Run()) ++tile::careful_tasks;
  });
}

void Backward(std::string_view arithmetic, const BackwardCall& call) {
  Workers& workers = call.execution.workers;
  const Gradients& gradients = call.gradients;
  WorkspaceCutter cutter(call.execution.workspace.data());
  const tile::KeyGradients sums = tile::cut_sums(call.problem, gradients, cutter);
  sums.set_to_zero(workers);
  const tile::SuperTiles supers(call.problem, call.tiling);
  const tile::TileBiases biases(call.problem, call.tiling, cutter);
  biases.make(call.in.rpb, workers);
  const tile::BiasSums bias_sums(call.problem, call.problem.batch, cutter);
  bias_sums.set_to_zero(workers);
  const BackwardShared shared{call,     tile::LaneShape(call.tiling.query), supers, {supers, call.tiling}, sums, biases,
                              bias_sums};
  std::byte* const workspace = call.execution.workspace.data() + cutter.size();
  WithProducts(arithmetic, call.tiling,
               [&](auto products) { BackwardOf<typename decltype(products)::type>(shared, workspace); });
  bias_sums.store(gradients.drpb, workers);
  sums.store(gradients, workers, RoundRow());
}

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::fused {

void backward(const Plan& plan, const Problem& problem, const Inputs& inputs, const SavedForBackward& saved,
              const Gradients& gradients, const Execution& execution) {
  NALAB_SELECT(plan.isa(), Backward)
  (plan.arithmetic().name, {problem, plan.tiling(), inputs, saved, gradients, execution});
}

PlanCost backward_workspace(const PlanChoice& choice) {
  PlanCost cost;
  cost.shared_bytes = carved_bytes([&](WorkspaceCutter& cutter) {
    tile::cut_sums(choice.problem, {}, cutter);
    tile::TileBiases(choice.problem, *choice.tiling, cutter);
    tile::BiasSums(choice.problem, choice.problem.batch, cutter);
  });
  cost.bytes_per_worker =
      NALAB_SELECT(choice.isa, GradientBytes)(choice.arithmetic->name, choice.problem, *choice.tiling);
  return cost;
}

}  // namespace nalab::fused
#endif  // HWY_ONCE
