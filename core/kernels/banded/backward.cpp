// The backward pass of banded: five products over the band of the forward pass, from the saved lse.
//
// Blocks of rows walk over rows of keys as in the forward pass. With lse known, a row of keys is done with at once: its
// scores, and the products of dout with its values, become weights and gradients of scores; dk and dv of its keys are
// summed over all rows of queries of the block that attend to it (gradients-inl.h) and added to memory once. dq is
// summed as the forward pass sums values.
//
// Tasks that share keys add to them in an order that depends on the problem alone (backward_tasks.h): nothing is copied
// for each thread. What all queries add to, drpb and the gradients of extra tokens, is summed in parts, which are added
// up at the end.
#include "core/kernels/banded/backward.h"

#include <vector>

#include "core/kernels/banded/strips.h"
#include "core/tensor/workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/banded/backward.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "core/kernels/banded/backward_task-inl.h"
#include "core/kernels/tile/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

/// What a call cuts from the part of the workspace that all workers share, and its tasks.
struct SharedMemory {
  LaneOrder order;
  BlockShape block;
  tile::KeyGradients sums;
  StripBiases biases;
  BackwardTasks tasks;
  PartSums part_sums;

  SharedMemory(const Problem& problem, const Gradients& gradients, WorkspaceCutter& cutter)
      : order(problem, kLanes),
        block(problem, kLanes, Pass::backward),
        sums(tile::cut_sums(problem, gradients, cutter)),
        biases(problem, order, cutter),
        tasks(problem, order, block, carved_bytes([&](WorkspaceCutter& part) { PartSums(problem, 1, part); })),
        part_sums(problem, problem.batch * tasks.parts_of_entry(), cutter) {}

  /// Floats of a task's sums of drpb.
  int64_t bias_floats(const Problem& problem) const { return problem.relative_bias ? biases.of_strip() : 0; }
};

int64_t GradientSharedBytes(const Problem& problem) {
  return carved_bytes([&](WorkspaceCutter& cutter) { SharedMemory(problem, {}, cutter); });
}

int64_t PrivateBytesOf(const Problem& problem, const SharedMemory& shared) {
  return carved_bytes(
      [&](WorkspaceCutter& cutter) { GradientPrivate(problem, shared.block, shared.bias_floats(problem), cutter); });
}

int64_t GradientPrivateBytes(const Problem& problem) {
  WorkspaceCutter none(nullptr);
  return PrivateBytesOf(problem, SharedMemory(problem, {}, none));
}

void Backward(const Plan& plan, const Inputs& in, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution) {
  const Problem& problem = plan.problem();
  Workers& workers = execution.workers;
  WorkspaceCutter cutter(execution.workspace.data());
  const SharedMemory common(problem, gradients, cutter);
  const BackwardTasks& tasks = common.tasks;
  const WorkerMemory memory{execution.workspace.data() + cutter.size(), PrivateBytesOf(problem, common)};
  common.biases.make(in.rpb, common.order, workers);
  common.part_sums.set_to_zero(workers);
  const GradientShared shared{{problem, common.order, common.block, problem.axes3(), common.biases},
                              in,
                              saved,
                              gradients,
                              common.sums,
                              common.part_sums};
  const int64_t bias_floats = common.bias_floats(problem);
  const auto run = [&](int64_t number, int worker, TaskProgress* progress) {
    const BackwardTask task = tasks.at(number);
    Turn turn(tasks, task, progress);
    if (task.x1.empty() || task.x2.empty()) return;
    if (problem.relative_bias || problem.extra_tokens > 0) turn.wait_for_part();
    WorkspaceCutter own = memory.of(worker);
    const GradientPrivate mine(problem, common.block, bias_floats, own);
    with_element_type(problem.type, [&](auto element) {
      for (int64_t strip = task.strips.begin; strip < task.strips.end; ++strip) {
        RunStrip<decltype(element)>(shared, strip, turn, mine);
      }
    });
  };
  // A batch entry that one thread takes alone stays in its caches. As many as make the same number for each thread are
  // taken so; all threads share the tasks of the first ones. A key's sum is taken in the same order.
  const int64_t shared_entries = problem.batch % workers.threads(), of_entry = tasks.tasks_of_entry();
  workers.for_each(problem.batch - shared_entries, [&](int64_t i, int worker) {
    const int64_t entry = shared_entries + i;
    common.sums.of_entries({entry, entry + 1}).set_to_zero();
    for (int64_t task = entry * of_entry; task < (entry + 1) * of_entry; ++task) run(task, worker, nullptr);
  });
  common.sums.of_entries({0, shared_entries}).set_to_zero(workers);
  std::vector<TaskProgress> progress(static_cast<std::size_t>(shared_entries * of_entry));
  OrderedTasks ordered(workers);
  ordered.for_each(shared_entries * of_entry, [&](const OrderedTasks::Task& task) {
    // Entries take turns: they never wait for each other.
    const int64_t entry = task.number() % shared_entries;
    run(entry * of_entry + task.number() / shared_entries, task.worker(), progress.data());
  });
  common.part_sums.add_up(common.sums, gradients.drpb, workers);
  common.sums.store(gradients, workers, tile::HWY_NAMESPACE::RoundRow());
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::banded {

void backward(const Plan& plan, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution) {
  NALAB_SELECT(plan.isa(), Backward)(plan, inputs, saved, gradients, execution);
}

PlanCost backward_cost(const PlanChoice& choice) {
  return {.shared_bytes = NALAB_SELECT(choice.isa, GradientSharedBytes)(choice.problem),
          .bytes_per_worker = NALAB_SELECT(choice.isa, GradientPrivateBytes)(choice.problem),
          .executed_flops = choice.problem.useful_flops(choice.pass)};
}

}  // namespace nalab::banded
#endif  // HWY_ONCE
