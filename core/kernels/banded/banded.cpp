// banded: fused neighborhood attention for small windows: Faster NA (2403.04690), section 3.3, for CPUs, by a band of
// keys in place of tiles.
//
// A strip of queries, consecutive along the last axis, lies on the lanes of a vector, and a block of rows of queries
// shares each row of keys: it is transposed once, and a column of all windows is the row shifted by a key
// (scores-inl.h). No pair is computed that does not attend. The scores of a block stay in the first-level cache; a
// softmax over the columns makes weights of them; then channels lie on lanes, and values are read where they are
// (values-inl.h). Extra tokens are more columns, the same key for every lane. The backward pass is in backward.cpp, the
// forward pass of bf16 on a matrix unit in matrix.cpp.
#include "core/kernels/banded/backward.h"
#include "core/kernels/banded/matrix.h"
#include "core/kernels/banded/strips.h"
#include "core/kernels/banded/tasks.h"
#include "core/kernels/variants.h"
#include "core/tensor/workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/banded/banded.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "core/kernels/banded/task-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nalab::banded::HWY_NAMESPACE {

/// Calls body(cells) with the kind of cells that an arithmetic multiplies.
template <class Body>
auto WithCells([[maybe_unused]] std::string_view arithmetic, const Body& body) {
#if HWY_TARGET == HWY_AVX3
  if (arithmetic == kBf16Dot) return body(PairCells());
#endif
  return body(FloatCells());
}

template <class A>
BlockShape ShapeOf(A /*cells*/, const Problem& problem) {
  return BlockShape(problem, kLanes, Pass::forward, A::kElements);
}

int64_t PrivateBytes(const Problem& problem, std::string_view arithmetic) {
  return WithCells(arithmetic, [&](auto cells) {
    return carved_bytes([&](WorkspaceCutter& cutter) { Private(cells, problem, ShapeOf(cells, problem), cutter); });
  });
}

int64_t SharedBytes(const Problem& problem) {
  return carved_bytes([&](WorkspaceCutter& cutter) { StripBiases(problem, LaneOrder(problem, kLanes), cutter); });
}

Tasks TasksOf(const Problem& p, const LaneOrder& order, const BlockShape& block, int threads) {
  // Enough tasks for all threads; but blocks that follow each other share keys, most of all along the first axis.
  const int64_t enough = std::min(8 * threads, 64);
  const auto axes = p.axes3();
  const int64_t length1 = axes[0].group_length(0), length2 = axes[1].group_length(0);
  int64_t tasks = p.batch * axes[0].dilation * axes[1].dilation * order.strips();
  const auto size = [&](int64_t length, int64_t most) {
    const int64_t pieces = std::clamp<int64_t>(geometry::ceil_div(enough, tasks), 1, most);
    tasks *= pieces;
    return geometry::ceil_div(length, pieces);
  };
  const int64_t blocks = geometry::ceil_div(length2, block.positions);
  const int64_t piece2 = length1 > 1 ? block.positions : size(blocks, blocks) * block.positions;
  if (length1 > 1) tasks *= geometry::ceil_div(length2, piece2);
  return {p, order.strips(), size(length1, length1), piece2};
}

template <class T, class A>
void HWY_ATTR RunTask(const Shared& shared, const Tasks::Task& task, const Private& mine) {
  const Strip strip(shared.geometry.order, task.strip);
  banded::HWY_NAMESPACE::Task<T, A> blocks(shared, task.strip, strip, task.place, mine);
  shared.geometry.block.for_each_block(task.x2, [&](geometry::Range x2) {
    for (int64_t x1 = task.x1.begin; x1 < task.x1.end; ++x1) blocks.Run(x1, x2);
  });
}

template <class A>
void ForwardOf(A cells, const Plan& plan, const Inputs& in, const Outputs& out, const Execution& execution) {
  const Problem& problem = plan.problem();
  const LaneOrder order(problem, kLanes);
  const BlockShape shape = ShapeOf(cells, problem);
  WorkspaceCutter cutter(execution.workspace.data());
  const StripBiases biases(problem, order, cutter);
  biases.make(in.rpb, order, execution.workers);
  const WorkerMemory memory{execution.workspace.data() + cutter.size(), PrivateBytes(problem, plan.arithmetic().name)};
  const Shared shared{{problem, order, shape, problem.axes3(), biases}, in, out};
  const Tasks tasks = TasksOf(problem, order, shape, execution.workers.threads());
  execution.workers.for_each(tasks.count(), [&](int64_t number, int worker) {
    WorkspaceCutter own = memory.of(worker);
    const Private mine(cells, problem, shape, own);
    if constexpr (A::kElements == 2) {
      RunTask<bf16, A>(shared, tasks.at(number), mine);
    } else {
      with_element_type(problem.type,
                        [&](auto element) { RunTask<decltype(element), A>(shared, tasks.at(number), mine); });
    }
  });
}

void Forward(const Plan& plan, const Inputs& in, const Outputs& out, const Execution& execution) {
  WithCells(plan.arithmetic().name, [&](auto cells) { ForwardOf(cells, plan, in, out, execution); });
}

}  // namespace nalab::banded::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::banded {

namespace {

std::optional<std::string> supports(const Problem& problem, Pass pass) {
  if (is_split(pass)) {
    return "banded never has the weights in memory: naive and gemm compute the pass " + std::string(name(pass));
  }
  constexpr int64_t kMaxKeys = 4096;
  const int64_t window = problem.axes.back().window;
  if (window > kMaxWindow) {
    return "banded takes windows of at most " + std::to_string(kMaxWindow) + " along the last axis, this one is " +
           std::to_string(window);
  }
  if (problem.keys_per_query() > kMaxKeys) {
    return "banded takes at most " + std::to_string(kMaxKeys) + " keys a query, extra tokens included, these are " +
           std::to_string(problem.keys_per_query());
  }
  return std::nullopt;
}

/// Whether products of bf16 tiles compute a pass.
bool on_matrix_unit(const Arithmetic& arithmetic, Pass pass) {
  return pass == Pass::forward && arithmetic.parts(pass) == 1;
}

/// Backward all is float.
bool takes(const Arithmetic& arithmetic, Pass pass) {
  if (arithmetic.name == kF32Fma) return true;
  return pass == Pass::forward && (arithmetic.name == kBf16Dot || on_matrix_unit(arithmetic, pass));
}

/// Whether products of tiles, of 24 keys or more in each row for all queries of a strip, are faster than float: where
/// it was measured, docs/small_windows.md, "On the matrix unit".
bool tiles_pay(const Problem& problem) {
  const auto axes = problem.axes3();
  const int64_t window = axes[2].window, dim = std::max(problem.head_dim, problem.head_dim_v);
  const bool one_row = axes[0].window * axes[1].window == 1, space = axes[0].window > 1;
  if (one_row) return window >= (dim > 64 ? 13 : 33);
  return window >= 7 || (space && window >= 5 && dim >= 64);
}

}  // namespace

Variant variant() {
  return {
      .name = "banded",
      .paper_term = "fused NA (Faster NA, section 3.3), for small windows",
      .summary = "Bands of keys shifted past queries on lanes: no pair is computed that does not attend.",
      .expected_flops_per_second = 80e9,
      .supports = supports,
      .takes = takes,
      .pays = [](const Arithmetic& arithmetic, const Problem& problem,
                 Pass pass) { return !on_matrix_unit(arithmetic, pass) || tiles_pay(problem); },
      .cost = [](const PlanChoice& choice) -> PlanCost {
        if (choice.pass == Pass::backward) return backward_cost(choice);
        if (on_matrix_unit(*choice.arithmetic, choice.pass)) return matrix_cost(choice);
        return {.shared_bytes = NALAB_SELECT(choice.isa, SharedBytes)(choice.problem),
                .bytes_per_worker = NALAB_SELECT(choice.isa, PrivateBytes)(choice.problem, choice.arithmetic->name),
                .executed_flops = choice.problem.useful_flops(choice.pass)};
      },
      .forward =
          [](const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
            if (on_matrix_unit(plan.arithmetic(), plan.pass())) return matrix_forward(plan, inputs, outputs, execution);
            NALAB_SELECT(plan.isa(), Forward)(plan, inputs, outputs, execution);
          },
      .backward = backward,
  };
}

}  // namespace nalab::banded
#endif  // HWY_ONCE
