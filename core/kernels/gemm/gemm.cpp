// gemm: neighborhood attention as batched matrix products, unfused: Faster NA (2403.04690) section 3.2, for CPUs, and
// beyond it for three axes.
//
// Queries are cut into multi-dimensional tiles; the keys that a tile attends to are its haloed key tile. Three passes
// over the whole problem, one after the other: PN multiplies each query tile with its haloed keys and scatters the
// attended scores to the rows of weights in memory; the softmax runs over those rows; NN gathers them into the tile
// again, zero where a query does not attend, and multiplies with the haloed values. Tile shapes and tile products are
// those of fused, so that what differs between the two is the way of the weights through memory.
#include "core/kernels/gemm/workspace.h"
#include "core/kernels/variants.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/gemm/gemm.cpp"
#include "core/simd/targets.h"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <algorithm>
#include "core/kernels/gemm/super_tile-inl.h"
#include "core/kernels/rows-inl.h"

#ifndef NALAB_CORE_KERNELS_GEMM_ONCE
#define NALAB_CORE_KERNELS_GEMM_ONCE

namespace nalab::gemm {

/// Tokens of one task of the softmax: enough that a task costs more than its start.
inline constexpr int64_t kTokensPerTask = 8;

}  // namespace nalab::gemm

#endif  // NALAB_CORE_KERNELS_GEMM_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::gemm::HWY_NAMESPACE {

/// Calls body(place, worker) for all super tiles.
template <class Body>
void ForEachSuperTile(const Problem& problem, const Tiles& tiles, Workers& workers, const Body& body) {
  const auto axes = problem.axes3();
  std::array<geometry::TileAxis, 3> cut;
  for (int axis = 0; axis < 3; ++axis) cut[axis] = {axes[axis].group_length(0), tiles.super_queries(axis)};
  const std::array<int64_t, 3> supers{cut[0].count(), cut[1].count(), cut[2].count()};
  const std::array<int64_t, 3> groups{axes[0].dilation, axes[1].dilation, axes[2].dilation};
  const int64_t supers_of_group = supers[0] * supers[1] * supers[2];
  const int64_t group_count = groups[0] * groups[1] * groups[2];
  const int64_t head_steps = problem.heads / tiles.heads;
  workers.for_each(problem.batch * head_steps * group_count * supers_of_group, [&](int64_t task, int worker) {
    const Token super = token_at(supers, task % supers_of_group);
    const int64_t rest = task / supers_of_group / group_count;
    Place place{.batch = rest / head_steps,
                .head = rest % head_steps * tiles.heads,
                .group = token_at(groups, task / supers_of_group % group_count),
                .queries = {}};
    for (int axis = 0; axis < 3; ++axis) {
      // Later dilation groups may be a position shorter, and so lack the last tile.
      const geometry::TileAxis of_group{axes[axis].group_length(place.group[axis]), cut[axis].tile};
      place.queries[axis] = of_group.range(super[axis]);
      if (place.queries[axis].empty()) return;
    }
    body(place, worker);
  });
}

void SoftmaxOfRows(const Problem& problem, const Workspace& workspace, const TensorView& lse, Workers& workers) {
  const auto axes = problem.axes3();
  const int64_t tokens = problem.tokens();
  const int64_t tasks_of_batch = geometry::ceil_div(tokens, kTokensPerTask);
  workers.for_each(problem.batch * tasks_of_batch, [&](int64_t task, int) HWY_ATTR {
    const int64_t b = task / tasks_of_batch;
    const int64_t first = task % tasks_of_batch * kTokensPerTask;
    for (int64_t index = first; index < std::min(first + kTokensPerTask, tokens); ++index) {
      const Token token = token_at(lse.shape.layout, index);
      const int64_t keys = key_count(axes, token) + problem.extra_tokens;
      for (int64_t h = 0; h < problem.heads; ++h) {
        const float value = rows::HWY_NAMESPACE::Softmax(workspace.weights(b, token, h), keys);
        store_row(lse, b, token, h, &value);
      }
    }
  });
}

template <class T, int Lanes>
void ForwardOf(const Problem& problem, const Tiles& tiles, const Inputs& in, const Outputs& out,
               const Execution& execution) {
  WorkspaceCutter cutter(execution.workspace.data());
  const Workspace workspace(problem, tiles, cutter, execution.workers.threads());
  const fused::LaneShape shape(tiles.micro);
  ForEachSuperTile(problem, tiles, execution.workers, [&](const Place& place, int worker) {
    SuperTile<T, Lanes>(problem, tiles, shape, in, workspace, worker, place).PointwiseNeighborhood();
  });
  SoftmaxOfRows(problem, workspace, out.lse, execution.workers);
  ForEachSuperTile(problem, tiles, execution.workers, [&](const Place& place, int worker) {
    SuperTile<T, Lanes>(problem, tiles, shape, in, workspace, worker, place).NeighborhoodNeighborhood(out.out);
  });
}

void Forward(const Problem& problem, const Inputs& in, const Outputs& out, const Execution& execution) {
  const Tiles tiles = fused::choose_tiles(problem);
  with_element_type(problem.type, [&](auto element) {
    using T = decltype(element);
    (tiles.lanes == 32 ? ForwardOf<T, 32> : ForwardOf<T, 16>)(problem, tiles, in, out, execution);
  });
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
      .supports = [](const Problem&, Pass pass) -> std::optional<std::string> {
        if (pass == Pass::backward) return "gemm has no backward pass yet";
        return std::nullopt;
      },
      .workspace_bytes = [](const Problem& problem, Pass, int threads) -> int64_t {
        const Tiles tiles = fused::choose_tiles(problem);
        WorkspaceCutter cutter(nullptr);
        const Workspace workspace(problem, tiles, cutter, threads);
        return cutter.size();
      },
      .executed_flops = [](const Problem& problem, Pass) -> int64_t {
        return 2 * problem.batch * problem.heads * fused::visited_pairs(problem, fused::choose_tiles(problem)) *
               (problem.head_dim + problem.head_dim_v);
      },
      .forward =
          [](const Problem& problem, const Inputs& inputs, const Outputs& outputs, const Execution& execution) {
            NALAB_SELECT(execution.isa, Forward)(problem, inputs, outputs, execution);
          },
  };
}

}  // namespace nalab::gemm
#endif  // HWY_ONCE
