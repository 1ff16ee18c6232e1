// The forward pass of banded on a matrix unit (AMX), in bf16.
//
// A strip of 16 queries, the rows of a tile, meets all keys of the rows of keys that it attends to, also those that
// only some of its queries attend to: of 24 keys in a row a window of 7 takes 7, and products are still the smaller
// part of the time. Scores are rows of queries. The softmax takes the keys of each query from its own first key on,
// and writes their weights among zeros (matrix_softmax-inl.h); so borders, strides, dilation and heads laid end to end
// are offsets alone. Keys and values are packed once for the rows of queries of a block (matrix_packing-inl.h).
//
// No maximum is looked for: a query's own score stands for it. Numbers that the unit would flush to zero or spread are
// looked for while packing; zeros stand for them, and the queries that attend to them, or whose sums of weights are out
// of range, are computed again, one by one in float32 (careful-inl.h). All others keep their bits.
#include "core/kernels/banded/matrix.h"

#include "core/kernels/banded/strips.h"
#include "core/kernels/banded/tasks.h"
#include "core/kernels/tile/super_tiles.h"
#include "core/tensor/workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/banded/matrix.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <limits>
#include "core/kernels/banded/matrix_task-inl.h"

#ifndef NALAB_CORE_KERNELS_BANDED_MATRIX_ONCE
#define NALAB_CORE_KERNELS_BANDED_MATRIX_ONCE

namespace nalab::banded {

/// The tasks of a call: those with the least time, by an estimate. What is computed of a query does not depend on them.
inline Tasks matrix_tasks(const Problem& p, const LaneOrder& order, int threads) {
  const auto axes = p.axes3();
  const int64_t strips = order.strips();
  const int64_t tasks = p.batch * axes[0].dilation * axes[1].dilation * strips;
  const int64_t length1 = axes[0].group_length(0), length2 = axes[1].group_length(0);
  // Time of a row of queries for each of its rows of keys, relative to that for packing one.
  const double visit = 0.7 * static_cast<double>(axes[0].window * axes[1].window * (p.heads / p.heads_kv));
  constexpr int64_t kMostPieces = 16;
  int64_t best1 = length1, best2 = length2;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t n1 = 1; n1 <= std::min(length1, kMostPieces); ++n1) {
    for (int64_t n2 = 1; n2 <= std::min(length2, kMostPieces); ++n2) {
      const int64_t size1 = geometry::ceil_div(length1, n1), size2 = geometry::ceil_div(length2, n2);
      const int64_t pieces = geometry::ceil_div(length1, size1) * geometry::ceil_div(length2, size2);
      const int64_t waves = geometry::ceil_div(tasks * pieces, threads);
      const int64_t packed = (size1 + axes[0].window - 1) * (size2 + axes[1].window - 1);
      const double time =
          static_cast<double>(waves) * (visit * static_cast<double>(size1 * size2) + static_cast<double>(packed));
      if (time >= least) continue;
      least = time;
      best1 = size1;
      best2 = size2;
    }
  }
  return {p, strips, best1, best2};
}

}  // namespace nalab::banded

#endif  // NALAB_CORE_KERNELS_BANDED_MATRIX_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

int64_t MatrixBytes(const Problem& problem) {
  return carved_bytes([&](WorkspaceCutter& cutter) { MatrixPrivate(problem, MatrixShape(problem), cutter); });
}

template <class MatrixUnit>
void ForwardOn(const Problem& problem, const Inputs& in, const Outputs& out, const Execution& execution) {
  WorkspaceCutter cutter(execution.workspace.data());
  const unfused::BiasTables biases(problem, problem.relative_bias, cutter);
  if (problem.relative_bias) rows::CopyTables(in.rpb, biases, execution.workers);
  const WorkerMemory memory{execution.workspace.data() + cutter.size(), MatrixBytes(problem)};
  const MatrixShared shared{problem, LaneOrder(problem, kQueries), MatrixShape(problem), problem.axes3(), biases, in,
                            out};
  const Tasks tasks = matrix_tasks(problem, shared.order, execution.workers.threads());
  execution.workers.for_each(tasks.count(), [&](int64_t number, int worker) HWY_ATTR {
    const Tasks::Task task = tasks.at(number);
    if (task.x1.empty() || task.x2.empty()) return;
    WorkspaceCutter own = memory.of(worker);
    const MatrixPrivate mine(problem, shared.shape, own);
    if (MatrixTask<MatrixUnit>(shared, task, mine).Run()) ++tile::careful_tasks;
  });
}

void MatrixForward(const Plan& plan, const Inputs& in, const Outputs& out, const Execution& execution) {
#if HWY_TARGET == HWY_AVX3
  if (plan.arithmetic().name == kBf16Amx) {
    return ForwardOn<tile::HWY_NAMESPACE::AmxUnit>(plan.problem(), in, out, execution);
  }
#endif
  ForwardOn<tile::HWY_NAMESPACE::EmulatedUnit>(plan.problem(), in, out, execution);
}

#else

// The unit and its emulation need AVX2.
int64_t MatrixBytes(const Problem&) { return 0; }
void MatrixForward(const Plan&, const Inputs&, const Outputs&, const Execution&) {}

#endif

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::banded {

void matrix_forward(const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
  NALAB_SELECT(plan.isa(), MatrixForward)(plan, inputs, outputs, execution);
}

PlanCost matrix_cost(const PlanChoice& choice) {
  const Problem& p = choice.problem;
  // Of each row of keys, those of a strip's windows that slide.
  const int64_t window = p.axes.back().window;
  return {
      .shared_bytes = carved_bytes([&](WorkspaceCutter& cutter) { unfused::BiasTables(p, p.relative_bias, cutter); }),
      .bytes_per_worker = NALAB_SELECT(choice.isa, MatrixBytes)(p),
      .executed_flops = p.useful_flops(choice.pass) * padded_keys(kQueries + window - 1) / window};
}

}  // namespace nalab::banded
#endif  // HWY_ONCE
