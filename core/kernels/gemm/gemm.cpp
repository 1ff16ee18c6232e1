// gemm: neighborhood attention as batched matrix products, unfused: Faster NA (2403.04690) section 3.2, for CPUs, and
// beyond it for three axes.
//
// Queries are cut into multi-dimensional tiles; the keys that a tile attends to are its haloed key tile. Three passes
// over the whole problem, one after the other: PN multiplies each query tile with its haloed keys and scatters the
// attended scores to the rows of weights in memory; the softmax runs over those rows; NN gathers them into the tile
// again, zero where a query does not attend, and multiplies with the haloed values. Tile shapes and tile products are
// those of fused, so that what differs between the two is the way of the weights through memory.
//
// The backward pass makes the weights again, has PN multiply dout with the values to a second set of rows, turns these
// into the gradients of the scores, and has NN multiply them with the keys for dq. For dk and dv, IN cuts the keys into
// tiles and multiplies each with its haloed queries: the inverse neighborhood.
#include "core/kernels/gemm/workspace.h"
#include "core/kernels/variants.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/gemm/gemm.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <algorithm>
#include "core/kernels/extra_tokens-inl.h"
#include "core/kernels/gemm/inverse_tile-inl.h"
#include "core/kernels/gemm/super_tile-inl.h"
#include "core/kernels/rows-inl.h"

#ifndef NALAB_CORE_KERNELS_GEMM_ONCE
#define NALAB_CORE_KERNELS_GEMM_ONCE

namespace nalab::gemm {

/// (key lane, query) pairs that the tiles of keys of one head of one batch entry visit in IN; extra tokens not counted.
inline int64_t inverse_visited_pairs(const Problem& problem, const Tiles& tiles) {
  const auto axes = problem.axes3();
  int64_t pairs = tiles.lanes;
  for (int i = 0; i < geometry::kAxes; ++i) {
    int64_t queries = 0;
    for (int64_t group = 0; group < axes[i].dilation; ++group) {
      const geometry::AxisMask mask = axes[i].group_mask(group);
      const geometry::TileAxis cut{mask.length, tiles.micro[i]};
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

/// Calls body(place, worker) for the super tiles of all heads, `heads_per_task` of them at a time.
template <class Body>
void ForEachSuperTile(const Problem& problem, const Tiles& tiles, int64_t heads, int64_t heads_per_task,
                      Workers& workers, const Body& body) {
  const auto axes = problem.axes3();
  std::array<geometry::TileAxis, 3> cut;
  for (int axis = 0; axis < 3; ++axis) cut[axis] = {axes[axis].group_length(0), tiles.super_queries(axis)};
  const std::array<int64_t, 3> supers{cut[0].count(), cut[1].count(), cut[2].count()};
  const std::array<int64_t, 3> groups{axes[0].dilation, axes[1].dilation, axes[2].dilation};
  const int64_t supers_of_group = supers[0] * supers[1] * supers[2];
  const int64_t group_count = groups[0] * groups[1] * groups[2];
  const int64_t head_steps = heads / heads_per_task;
  workers.for_each(problem.batch * head_steps * group_count * supers_of_group, [&](int64_t task, int worker) {
    const Token super = token_at(supers, task % supers_of_group);
    const int64_t rest = task / supers_of_group / group_count;
    Place place{.batch = rest / head_steps,
                .head = rest % head_steps * heads_per_task,
                .group = token_at(groups, task / supers_of_group % group_count),
                .box = {}};
    for (int axis = 0; axis < 3; ++axis) {
      // Later dilation groups may be a position shorter, and so lack the last tile.
      const geometry::TileAxis of_group{axes[axis].group_length(place.group[axis]), cut[axis].tile};
      place.box[axis] = of_group.range(super[axis]);
      if (place.box[axis].empty()) return;
    }
    body(place, worker);
  });
}

/// The passes over the whole problem.
template <class T, int Lanes>
class Passes {
 public:
  Passes(const Problem& problem, Pass pass, const Tiles& tiles, const Execution& execution)
      : problem_(problem),
        tiles_(tiles),
        workers_(execution.workers),
        cutter_(execution.workspace.data()),
        workspace_(problem, pass, tiles, cutter_, workers_.threads()),
        shape_(tiles.micro) {}

  void HWY_ATTR Forward(const Inputs& in, const Outputs& out) {
    Scores(in);
    for_each_query(problem_, workers_, [&](int64_t b, const Token& token, int64_t h, int64_t n) HWY_ATTR {
      const float lse = rows::HWY_NAMESPACE::Softmax(workspace_.weights.of(b, token, h), n);
      store_row(out.lse, b, token, h, &lse);
    });
    Sum(workspace_.weights, in.v.as<T>(), in.extra_v.as<T>(), out.out);
  }

  void HWY_ATTR Backward(const Inputs& in, const ConstTensorView& dout, const Gradients& out) {
    const WeightRows &weights = workspace_.weights, &gradients = workspace_.gradients;
    Scores(in);
    Multiply(dout.as<T>(), in.v.as<T>(), in.extra_v.as<T>(), 1.0f, gradients);
    for_each_query(problem_, workers_, [&](int64_t b, const Token& token, int64_t h, int64_t n) HWY_ATTR {
      rows::HWY_NAMESPACE::Softmax(weights.of(b, token, h), n);
      rows::HWY_NAMESPACE::SoftmaxGradient(weights.of(b, token, h), n, scale(), gradients.of(b, token, h));
    });
    Sum(gradients, in.k.as<T>(), in.extra_k.as<T>(), out.dq);
    InverseSum(gradients, in.q.as<T>(), out.dk, out.dextra_k);
    InverseSum(weights, dout.as<T>(), out.dv, out.dextra_v);
  }

 private:
  float scale() const { return factor_as_float(problem_.effective_scale()); }
  void Scores(const Inputs& in) {
    Multiply(in.q.as<T>(), in.k.as<T>(), in.extra_k.as<T>(), scale(), workspace_.weights);
  }

  /// PN.
  void Multiply(const TokenView<const T>& queries, const TokenView<const T>& keys, const TokenView<const T>& extra,
                float factor, const WeightRows& weights) {
    ForEachSuperTile(problem_, tiles_, problem_.heads, tiles_.heads, workers_, [&](const Place& place, int worker) {
      SuperTile<T, Lanes>(problem_, tiles_, shape_, workspace_, worker, place)
          .PointwiseNeighborhood(queries, keys, extra, factor, weights);
    });
  }
  /// NN.
  void Sum(const WeightRows& weights, const TokenView<const T>& values, const TokenView<const T>& extra,
           const TensorView& sums) {
    ForEachSuperTile(problem_, tiles_, problem_.heads, tiles_.heads, workers_, [&](const Place& place, int worker) {
      SuperTile<T, Lanes>(problem_, tiles_, shape_, workspace_, worker, place)
          .NeighborhoodNeighborhood(weights, values, extra, sums);
    });
  }
  /// IN.
  void InverseSum(const WeightRows& weights, const TokenView<const T>& queries, const TensorView& sums,
                  const TensorView& extra_sums) {
    ForEachSuperTile(problem_, tiles_, problem_.heads_kv, 1, workers_, [&](const Place& place, int worker) {
      InverseTile<T, Lanes>(problem_, tiles_, workspace_, worker, place).InverseNeighborhood(weights, queries, sums);
    });
    rows::HWY_NAMESPACE::ExtraNeighborhood(problem_, queries, weights, workspace_.extra, workspace_.partial, extra_sums,
                                           workers_);
  }

  const Problem& problem_;
  const Tiles& tiles_;
  Workers& workers_;
  WorkspaceCutter cutter_;
  const Workspace workspace_;
  const fused::LaneShape shape_;
};

/// Calls body(passes) for the problem's type and number of lanes.
template <class Body>
void WithPasses(const Problem& problem, Pass pass, const Execution& execution, const Body& body) {
  const Tiles tiles = fused::choose_tiles(problem);
  with_element_type(problem.type, [&](auto element) {
    using T = decltype(element);
    if (tiles.lanes == 32) {
      body(Passes<T, 32>(problem, pass, tiles, execution));
    } else {
      body(Passes<T, 16>(problem, pass, tiles, execution));
    }
  });
}

void Forward(const Problem& problem, const Inputs& in, const Outputs& out, const Execution& execution) {
  WithPasses(problem, Pass::forward, execution, [&](auto passes) { passes.Forward(in, out); });
}

void Backward(const Problem& problem, const Inputs& in, const SavedForBackward& saved, const Gradients& gradients,
              const Execution& execution) {
  WithPasses(problem, Pass::backward, execution, [&](auto passes) { passes.Backward(in, saved.dout, gradients); });
}

}  // namespace nalab::gemm::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nalab::gemm {

Variant variant() {
  return {
      .name = "gemm",
      .paper_term = "GEMM-based NA (Faster NA, section 3.2)",
      .summary =
          "Matrix products of query tiles with haloed key tiles, unfused: the weights of all queries are stored.",
      .supports = [](const Problem&, Pass) -> std::optional<std::string> { return std::nullopt; },
      .workspace_bytes = [](const Problem& problem, Pass pass, int threads) -> int64_t {
        const Tiles tiles = fused::choose_tiles(problem);
        WorkspaceCutter cutter(nullptr);
        const Workspace workspace(problem, pass, tiles, cutter, threads);
        return cutter.size();
      },
      .executed_flops = [](const Problem& problem, Pass pass) -> int64_t {
        const Tiles tiles = fused::choose_tiles(problem);
        const int64_t dims = problem.head_dim + problem.head_dim_v;
        int64_t products = fused::visited_pairs(problem, tiles) * dims;
        if (pass == Pass::backward) {
          products += fused::visited_pairs(problem, tiles) * problem.head_dim;
          products += (inverse_visited_pairs(problem, tiles) + problem.tokens() * problem.extra_tokens) * dims;
        }
        return 2 * problem.batch * problem.heads * products;
      },
      .forward =
          [](const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
            NALAB_SELECT(execution.isa, Forward)(problem, inputs, outputs, execution);
          },
      .backward =
          [](const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients,
             const Execution& execution) {
            NALAB_SELECT(execution.isa, Backward)(problem, inputs, saved, gradients, execution);
          },
  };
}

}  // namespace nalab::gemm
#endif  // HWY_ONCE
