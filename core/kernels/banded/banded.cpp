// banded: fused neighborhood attention for small windows: Faster NA (2403.04690), section 3.3, for CPUs, by a band of
// keys in place of tiles.
//
// A strip of queries, consecutive along the last axis, lies on the lanes of a vector, and a block of rows of queries
// shares each row of keys: it is transposed once, and a column of all windows is the row shifted by a key
// (scores-inl.h). No pair is computed that does not attend. The scores of a block stay in the first-level cache; a
// softmax over the columns makes weights of them; then channels lie on lanes, and values are read where they are
// (values-inl.h). Extra tokens are more columns, the same key for every lane. The backward pass is in backward.cpp.
#include "core/kernels/banded/backward.h"
#include "core/kernels/banded/strips.h"
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

int64_t PrivateBytes(const Problem& problem) {
  return carved_bytes([&](WorkspaceCutter& cutter) { Private(problem, cutter); });
}

int64_t SharedBytes(const Problem& problem) {
  return carved_bytes([&](WorkspaceCutter& cutter) { StripBiases(problem, LaneOrder(problem), kLanes, cutter); });
}

/// The tasks of a call, numbered: a strip, at one position of the first axis and in one dilation group of the middle
/// one, over some neighbouring blocks.
class Tasks {
 public:
  Tasks(const Problem& p, const LaneOrder& order, const BlockShape& block)
      : axes_(p.axes3()),
        positions_(block.positions),
        strips_(geometry::ceil_div(order.lanes(), kLanes)),
        batch_(p.batch) {
    // Enough tasks for many threads; but blocks that follow each other share keys.
    constexpr int64_t kTasks = 64;
    const int64_t blocks = geometry::ceil_div(axes_[1].group_length(0), positions_);
    const int64_t others = batch_ * axes_[0].extent * axes_[1].dilation * strips_;
    pieces_ = std::clamp<int64_t>(geometry::ceil_div(kTasks, others), 1, blocks);
    piece_ = geometry::ceil_div(blocks, pieces_) * positions_;
  }

  int64_t count() const { return batch_ * axes_[0].extent * axes_[1].dilation * pieces_ * strips_; }

  struct Place : BlockPlace {
    int64_t strip;
    geometry::Range x2;  ///< positions of the middle axis; may be empty
  };
  Place at(int64_t number) const {
    Place place;
    place.strip = number % strips_;
    number /= strips_;
    const int64_t piece = number % pieces_;
    number /= pieces_;
    place.g2 = number % axes_[1].dilation;
    number /= axes_[1].dilation;
    place.g1 = number % axes_[0].extent % axes_[0].dilation;
    place.x1 = number % axes_[0].extent / axes_[0].dilation;
    place.batch = number / axes_[0].extent;
    const int64_t length = axes_[1].group_length(place.g2);
    place.x2 = {std::min(piece * piece_, length), std::min((piece + 1) * piece_, length)};
    return place;
  }

 private:
  std::array<Axis, 3> axes_;
  int64_t positions_, strips_, batch_, pieces_, piece_;
};

template <class T>
void HWY_ATTR RunTask(const Shared& shared, const Tasks::Place& place, const Private& mine) {
  const Strip strip(shared.geometry.order, place.strip, kLanes);
  const int64_t positions = shared.geometry.block.positions;
  Task<T> task(shared, place.strip, strip, place, mine);
  for (int64_t x2 = place.x2.begin; x2 < place.x2.end; x2 += positions) {
    task.Run({x2, std::min(x2 + positions, place.x2.end)});
  }
}

void Forward(const Plan& plan, const Inputs& in, const Outputs& out, const Execution& execution) {
  const Problem& problem = plan.problem();
  const LaneOrder order(problem);
  const BlockShape shape(problem, kLanes, Pass::forward);
  WorkspaceCutter cutter(execution.workspace.data());
  const StripBiases biases(problem, order, kLanes, cutter);
  biases.make(in.rpb, order, execution.workers);
  const WorkerMemory memory{execution.workspace.data() + cutter.size(), PrivateBytes(problem)};
  const Shared shared{{problem, order, shape, problem.axes3(), biases}, in, out};
  const Tasks tasks(problem, order, shape);
  execution.workers.for_each(tasks.count(), [&](int64_t number, int worker) {
    WorkspaceCutter own = memory.of(worker);
    const Private mine(problem, own);
    with_element_type(problem.type, [&](auto element) { RunTask<decltype(element)>(shared, tasks.at(number), mine); });
  });
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

}  // namespace

Variant variant() {
  return {
      .name = "banded",
      .paper_term = "fused NA (Faster NA, section 3.3), for small windows",
      .summary = "Bands of keys shifted past queries on lanes: no pair is computed that does not attend.",
      .expected_flops_per_second = 80e9,
      .supports = supports,
      .takes = [](const Arithmetic& arithmetic, Pass) { return arithmetic.name == kF32Fma; },
      .cost = [](const PlanChoice& choice) -> PlanCost {
        if (choice.pass == Pass::backward) return backward_cost(choice);
        return {.shared_bytes = NALAB_SELECT(choice.isa, SharedBytes)(choice.problem),
                .bytes_per_worker = NALAB_SELECT(choice.isa, PrivateBytes)(choice.problem),
                .executed_flops = choice.problem.useful_flops(choice.pass)};
      },
      .forward =
          [](const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
            NALAB_SELECT(plan.isa(), Forward)(plan, inputs, outputs, execution);
          },
      .backward = backward,
  };
}

}  // namespace nalab::banded
#endif  // HWY_ONCE
