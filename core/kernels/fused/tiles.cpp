#include "core/kernels/fused/tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nalab::fused {

namespace {

// Queries and sums of all micro tiles of a super tile stay in a second-level cache of 1 MiB, beside a block of keys and
// values.
constexpr int64_t kTileBytes = 512 << 10;
constexpr int64_t kBlockBytes = 256 << 10;
constexpr int64_t kMaxMicros = 16;
// The scores of a micro tile and a block stay in a first-level cache of 32 to 48 KiB.
constexpr int64_t kScoreBytes = 32 << 10;
// Time to pack a key, relative to that of a micro tile's visit to it.
constexpr double kPackCost = 0.5;
// Time of a visit with 16 lanes, relative to one with 32: more loads for each multiply-add.
constexpr double kHalfVisitCost = 0.6;
// Tasks are spread over this many threads in the cost model, whatever the machine has.
constexpr int64_t kThreads = 16;

/// Number of keys in the KV tiles that tiles of `tile` queries along an axis visit, over all tiles of a dilation group.
int64_t visited_in_group(const geometry::AxisMask& mask, int64_t tile, int64_t kv_tile) {
  if (kv_tile == 1) return geometry::keys_of_tiles(mask, tile);
  const geometry::TileAxis queries{mask.length, tile}, keys{mask.length, kv_tile};
  int64_t visited = 0;
  for (int64_t i = 0; i < queries.count(); ++i) visited += keys.covering(mask.keys_of_any(queries.range(i))).size();
  return visited;
}

/// The same over all dilation groups.
int64_t visited_along(const Axis& axis, int64_t tile, int64_t kv_tile) {
  // The first extent mod dilation groups are one position longer than the others.
  const int64_t longer = axis.extent % axis.dilation;
  const int64_t keys = (axis.dilation - longer) * visited_in_group(axis.group_mask(axis.dilation - 1), tile, kv_tile);
  return longer == 0 ? keys : keys + longer * visited_in_group(axis.group_mask(0), tile, kv_tile);
}

int64_t tiles_along(const Axis& axis, int64_t tile) {
  return geometry::TileAxis{axis.group_length(0), tile}.count() * axis.dilation;
}

}  // namespace

Tiles choose_tiles(const Problem& problem, Pass pass, KvTiling tiling) {
  const auto axes = problem.axes3();
  const double extra = static_cast<double>(problem.extra_tokens);
  const auto product_along = [&](auto&& count, const std::array<int64_t, 3>& shape) {
    double product = 1;
    for (int axis = 0; axis < geometry::kAxes; ++axis) product *= static_cast<double>(count(axes[axis], shape[axis]));
    return product;
  };
  // Keys visited, over all tiles of a shape.
  const auto visits = [&](const std::array<int64_t, 3>& shape) {
    return product_along([](const Axis& axis, int64_t tile) { return visited_along(axis, tile, 1); }, shape) +
           extra * product_along(tiles_along, shape);
  };

  Tiles best;
  double best_cost = std::numeric_limits<double>::infinity();
  for (int64_t lanes : {32, 16}) {
    for (int64_t x1 = 1; x1 <= lanes; x1 *= 2) {
      for (int64_t x2 = 1; x1 * x2 <= lanes; x2 *= 2) {
        const std::array<int64_t, 3> shape{x1, x2, lanes / (x1 * x2)};
        const double cost = visits(shape) * (lanes == 32 ? 1.0 : kHalfVisitCost);
        // At equal cost longer runs along the last axis are better: keys are adjacent there.
        if (cost < best_cost) {
          best_cost = cost;
          best.micro = shape;
          best.lanes = lanes;
        }
      }
    }
  }

  // A query tile and a KV tile of one shape.
  if (tiling == KvTiling::static_tiles) best.kv = best.micro;

  // Forward: a query and its sums, a key and a value. Backward: q and dout on lanes and as rows, dq; k as rows and in
  // panels, v, dk and dv.
  const int64_t row = pass == Pass::forward ? 4 * (problem.head_dim + problem.head_dim_v)
                                            : 4 * (3 * problem.head_dim + 2 * problem.head_dim_v);
  best.block_keys = std::clamp<int64_t>(kBlockBytes / row / 8 * 8, 64, kScoreBytes / (4 * best.lanes));
  const int64_t most = std::clamp<int64_t>(kTileBytes / (best.lanes * row), 1, kMaxMicros);
  const int64_t group = problem.heads / problem.heads_kv;
  best.heads = std::min(group, most);
  while (group % best.heads != 0) --best.heads;

  const double micro_visits = visits(best.micro) * static_cast<double>(group);
  std::array<int64_t, 3> count;
  for (int axis = 0; axis < geometry::kAxes; ++axis) {
    count[axis] = geometry::ceil_div(axes[axis].group_length(0), best.micro[axis]);
  }
  best_cost = std::numeric_limits<double>::infinity();
  const std::array<int64_t, 3> micro = best.micro;
  const int64_t limit = most / best.heads;
  for (int64_t s1 = 1; s1 <= std::min(limit, count[0]); ++s1) {
    for (int64_t s2 = 1; s1 * s2 <= limit && s2 <= count[1]; ++s2) {
      for (int64_t s3 = 1; s1 * s2 * s3 <= limit && s3 <= count[2]; ++s3) {
        const std::array<int64_t, 3> shape{micro[0] * s1, micro[1] * s2, micro[2] * s3};
        const double tasks = product_along(tiles_along, shape) *
                             static_cast<double>(problem.batch * problem.heads_kv * (group / best.heads));
        const double waves = tasks / static_cast<double>(kThreads);
        const double imbalance = std::ceil(waves) / waves;
        const double packs = visits(shape) * static_cast<double>(group / best.heads);
        const double cost = (micro_visits + kPackCost * packs) * imbalance;
        if (cost <= best_cost) {
          best_cost = cost;
          best.super = {s1, s2, s3};
        }
      }
    }
  }
  return best;
}

int64_t visited_pairs(const Problem& problem, const Tiles& tiles) {
  const auto axes = problem.axes3();
  int64_t keys = 1;
  int64_t count = 1;
  for (int axis = 0; axis < geometry::kAxes; ++axis) {
    keys *= visited_along(axes[axis], tiles.micro[axis], tiles.kv[axis]);
    count *= tiles_along(axes[axis], tiles.micro[axis]);
  }
  return tiles.lanes * (keys + count * problem.extra_tokens);
}

}  // namespace nalab::fused
