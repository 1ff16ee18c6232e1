// gemm: neighborhood attention as batched matrix products, unfused: Faster NA (2403.04690) section 3.2, for CPUs, and
// beyond it for three axes.
//
// Queries are cut into multi-dimensional tiles; the keys that a tile attends to are its haloed key tile. Three passes
// over the whole problem, one after the other: PN multiplies each query tile with its haloed keys and scatters the
// attended scores to the rows of weights in memory; the softmax runs over those rows; NN gathers them into the tile
// again, zero where a query does not attend, and multiplies with the haloed values. Tile shapes and tile products are
// those of fused, so that what differs between the two is the way the weights take through memory.
//
// The backward pass makes the weights again, has PN multiply dout with the values to a second set of rows, turns these
// into the gradients of the scores, and has NN multiply them with the keys for dq. For dk and dv, IN cuts the keys into
// tiles and multiplies each with its haloed queries: the inverse neighborhood.
#include "core/kernels/gemm/workspace.h"
#include "core/kernels/tile/super_tiles.h"
#include "core/kernels/variants.h"
#include "core/tuning/cost_model.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/gemm/gemm.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <algorithm>
#include "core/kernels/gemm/inverse_tile-inl.h"
#include "core/kernels/gemm/super_tile-inl.h"
#include "core/kernels/unfused/extra_tokens-inl.h"
#include "core/kernels/unfused/rows-inl.h"

#ifndef NALAB_CORE_KERNELS_GEMM_ONCE
#define NALAB_CORE_KERNELS_GEMM_ONCE

namespace nalab::gemm {

/// (key lane, query) pairs that the tiles of keys of one head of one batch entry visit in IN; extra tokens not counted.
inline int64_t inverse_visited_pairs(const Problem& problem, const Tiling& tiling) {
  const auto axes = problem.axes3();
  int64_t pairs = tiling.lanes;
  for (int i = 0; i < geometry::kAxes; ++i) {
    int64_t queries = 0;
    for (int64_t group = 0; group < axes[i].dilation; ++group) {
      const geometry::AxisMask mask = axes[i].group_mask(group);
      const geometry::TileAxis cut{mask.length, tiling.query[i]};
      for (int64_t tile = 0; tile < cut.count(); ++tile) queries += mask.queries_of_any(cut.range(tile)).size();
    }
    pairs *= queries;
  }
  return pairs;
}

}  // namespace nalab::gemm

#endif  // NALAB_CORE_KERNELS_GEMM_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::gemm::HWY_NAMESPACE {

/// Calls body(super tile, worker) for all super tiles.
template <class Body>
void ForEachSuperTile(const tile::SuperTiles& supers, Workers& workers, const Body& body) {
  workers.for_each(supers.count(), [&](int64_t task, int worker) {
    const tile::SuperTile super = supers.at(task);
    if (geometry::size(super.tokens) > 0) body(super, worker);
  });
}

/// The passes over the whole problem.
template <class T, int Lanes>
class Passes {
 public:
  Passes(const Plan& plan, const Execution& execution)
      : problem_(plan.problem()),
        tiling_(plan.tiling()),
        workers_(execution.workers),
        workspace_(problem_, plan.pass(), tiling_, execution.workspace.data()),
        shape_(tiling_.query) {}

  void HWY_ATTR Forward(const Inputs& in, const Outputs& out) {
    Scores(in);
    unfused::for_each_query(problem_, workers_, [&](int64_t b, const Token& token, int64_t h, int64_t n) HWY_ATTR {
      const float lse = unfused::HWY_NAMESPACE::Softmax(workspace_.stored().weights.of(b, token, h), n);
      store_row(out.lse, b, token, h, &lse);
    });
    Sum(workspace_.stored().weights, in.v.as<T>(), in.extra_v.as<T>(), out.out);
  }

  void HWY_ATTR Backward(const Inputs& in, const ConstTensorView& dout, const Gradients& out) {
    const WeightRows &weights = workspace_.stored().weights, &gradients = workspace_.stored().gradients;
    Scores(in);
    Multiply(dout.as<T>(), in.v.as<T>(), in.extra_v.as<T>(), 1.0f, gradients);
    unfused::for_each_query(problem_, workers_, [&](int64_t b, const Token& token, int64_t h, int64_t n) HWY_ATTR {
      unfused::HWY_NAMESPACE::Softmax(weights.of(b, token, h), n);
      unfused::HWY_NAMESPACE::SoftmaxGradient(weights.of(b, token, h), n, scale(), gradients.of(b, token, h));
    });
    Sum(gradients, in.k.as<T>(), in.extra_k.as<T>(), out.dq);
    InverseSum(gradients, in.q.as<T>(), out.dk, out.dextra_k);
    InverseSum(weights, dout.as<T>(), out.dv, out.dextra_v);
  }

 private:
  float scale() const { return factor_as_float(problem_.effective_scale()); }
  void Scores(const Inputs& in) {
    Multiply(in.q.as<T>(), in.k.as<T>(), in.extra_k.as<T>(), scale(), workspace_.stored().weights);
  }

  /// PN.
  void Multiply(const TokenView<const T>& queries, const TokenView<const T>& keys, const TokenView<const T>& extra,
                float factor, const WeightRows& weights) {
    ForEachSuperTile({problem_, tiling_}, workers_, [&](const tile::SuperTile& super, int worker) {
      SuperTile<T, Lanes>(problem_, tiling_, shape_, workspace_, worker, super)
          .PointwiseNeighborhood(queries, keys, extra, factor, weights);
    });
  }
  /// NN.
  void Sum(const WeightRows& weights, const TokenView<const T>& values, const TokenView<const T>& extra,
           const TensorView& sums) {
    ForEachSuperTile({problem_, tiling_}, workers_, [&](const tile::SuperTile& super, int worker) {
      SuperTile<T, Lanes>(problem_, tiling_, shape_, workspace_, worker, super)
          .NeighborhoodNeighborhood(weights, values, extra, sums);
    });
  }
  /// IN.
  void InverseSum(const WeightRows& weights, const TokenView<const T>& queries, const TensorView& sums,
                  const TensorView& extra_sums) {
    const auto supers = tile::SuperTiles::of_keys(problem_, tiling_);
    ForEachSuperTile(supers, workers_, [&](const tile::SuperTile& super, int worker) {
      InverseTile<T, Lanes>(problem_, tiling_, workspace_, worker, super).InverseNeighborhood(weights, queries, sums);
    });
    unfused::HWY_NAMESPACE::ExtraNeighborhood(problem_, queries, weights, workspace_.stored().extra,
                                              workspace_.stored().partial, extra_sums, workers_);
  }

  const Problem& problem_;
  const Tiling& tiling_;
  Workers& workers_;
  const Workspace workspace_;
  const tile::LaneShape shape_;
};

/// Calls body(passes) for the problem's type and number of lanes.
template <class Body>
void WithPasses(const Plan& plan, const Execution& execution, const Body& body) {
  with_element_type(plan.problem().type, [&](auto element) {
    using T = decltype(element);
    if (plan.tiling().lanes == 32) {
      body(Passes<T, 32>(plan, execution));
    } else {
      body(Passes<T, 16>(plan, execution));
    }
  });
}

void Forward(const Plan& plan, const Inputs& in, const Outputs& out, const Execution& execution) {
  WithPasses(plan, execution, [&](auto&& passes) { passes.Forward(in, out); });
}

void Backward(const Plan& plan, const Inputs& in, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution) {
  WithPasses(plan, execution, [&](auto&& passes) { passes.Backward(in, saved.dout, gradients); });
}

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::gemm {

namespace {

PlanCost cost(const PlanChoice& choice) {
  const Problem& p = choice.problem;
  const Tiling& tiling = *choice.tiling;
  const int64_t dims = p.head_dim + p.head_dim_v;
  const int64_t visited = tuning::visited_pairs(p, tiling);
  int64_t products = visited * dims;
  if (choice.pass == Pass::backward) {
    products += visited * p.head_dim + (inverse_visited_pairs(p, tiling) + p.tokens() * p.extra_tokens) * dims;
  }
  return {
      .shared_bytes = carved_bytes([&](WorkspaceCutter& cutter) { stored_weights(p, choice.pass, cutter); }),
      .bytes_per_worker = carved_bytes([&](WorkspaceCutter& cutter) { cut_private(p, choice.pass, tiling, cutter); }),
      .executed_flops = 2 * p.batch * p.heads * products,
  };
}

}  // namespace

Variant variant() {
  return {
      .name = "gemm",
      .paper_term = "GEMM-based NA (Faster NA, section 3.2)",
      .summary =
          "Matrix products of query tiles with haloed key tiles, unfused: the weights of all queries are stored.",
      .expected_flops_per_second = 50e9,
      .supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; },
      .takes = [](const Arithmetic& arithmetic, Pass) { return arithmetic.name == kF32Fma; },
      // Both passes are made of the same operators, and so are their tiles.
      .candidates =
          [](const Problem& problem, Pass, const Machine& machine, std::size_t most) {
            return tuning::candidates(problem, Pass::forward, geometry::KvTiling::dynamic_tiles, machine, most);
          },
      .cost = cost,
      .forward =
          [](const Plan& plan, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
            NALAB_SELECT(plan.isa(), Forward)(plan, inputs, outputs, execution);
          },
      .backward =
          [](const Plan& plan, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
             const Execution& execution) {
            NALAB_SELECT(plan.isa(), Backward)(plan, inputs, saved, gradients, execution);
          },
  };
}

}  // namespace nalab::gemm
#endif  // HWY_ONCE
