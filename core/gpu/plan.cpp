#include "core/gpu/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/gpu/axis_tiles.h"
#include "core/gpu/tile_shapes.h"

namespace nalab::gpu {

namespace {

constexpr int64_t kMostTokens = int64_t{1} << 30;

/// The groups of an axis by their length: the first extent mod dilation are one position longer than the others.
struct GroupLengths {
  explicit GroupLengths(const Axis& axis) : longer(axis.extent % axis.dilation), masks{axis.group_mask(0)} {
    if (longer > 0) masks.push_back(axis.group_mask(axis.dilation - 1));
  }
  /// Index of the mask of group g.
  std::size_t of(int64_t g) const { return longer > 0 && g >= longer ? 1 : 0; }

  int64_t longer;
  std::vector<geometry::AxisMask> masks;
};

/// Where the tiles of an axis stand in TilePlan::axis_tiles, for each length of its groups.
struct TilesOfAxis {
  std::vector<std::pair<int32_t, int32_t>> of_length;  ///< begin, end
};

TilesOfAxis append_axis(const GroupLengths& lengths, const AxisCut& cut, TilePlan& plan) {
  TilesOfAxis places;
  for (const geometry::AxisMask& mask : lengths.masks) {
    const auto first_range = static_cast<int32_t>(plan.key_ranges.size());
    const auto ranges = key_ranges(mask, cut);
    plan.key_ranges.insert(plan.key_ranges.end(), ranges.begin(), ranges.end());
    const auto begin = static_cast<int32_t>(plan.axis_tiles.size());
    for (AxisTile tile : axis_tiles(mask, cut)) {
      tile.key_ranges += first_range;
      plan.axis_tiles.push_back(tile);
    }
    places.of_length.emplace_back(begin, static_cast<int32_t>(plan.axis_tiles.size()));
  }
  return places;
}

/// Visits of the layout's tiles by the warpgroups, and those of extra tokens by the active ones.
int64_t visits_of(const TilePlan& plan, const QueryTile& tile) {
  int64_t visits = 0;
  for (int w = 0; w < kWarpgroups; ++w) {
    int64_t tiles = 1;
    for (int x = 0; x < kAxisCount; ++x) {
      const Span any = plan.axis_tiles[static_cast<std::size_t>(tile.axis_tile[x])].any[w];
      tiles *= any.end - any.begin;
    }
    if (tiles > 0) visits += tiles + plan.header.extra_tiles;
  }
  return visits;
}

/// Heavy tiles first: the last ones to run should be short. Equal ones stay neighbours, since they share keys.
void append_query_tiles(const std::array<GroupLengths, kAxisCount>& lengths,
                        const std::array<TilesOfAxis, kAxisCount>& places, TilePlan& plan) {
  std::vector<std::pair<int64_t, QueryTile>> tiles;
  for (std::size_t g = 0; g < plan.groups.size(); ++g) {
    std::pair<int32_t, int32_t> along[kAxisCount];
    for (int x = 0; x < kAxisCount; ++x) {
      along[x] = places[x].of_length[lengths[x].of(plan.groups[g].first[x])];
    }
    for (int32_t i = along[0].first; i < along[0].second; ++i) {
      for (int32_t j = along[1].first; j < along[1].second; ++j) {
        for (int32_t k = along[2].first; k < along[2].second; ++k) {
          const QueryTile tile{{i, j, k}, static_cast<int32_t>(g)};
          tiles.emplace_back(visits_of(plan, tile), tile);
          plan.visits += tiles.back().first;
        }
      }
    }
  }
  std::ranges::stable_sort(tiles, std::ranges::greater{}, [](const auto& tile) { return tile.first; });
  plan.query_tiles.reserve(tiles.size());
  for (const auto& [visits, tile] : tiles) plan.query_tiles.push_back(tile);
  plan.header.query_tiles = static_cast<int32_t>(tiles.size());
}

}  // namespace

std::optional<std::string> cannot_plan(const Problem& problem) {
  if (problem.tokens() > kMostTokens || problem.extra_tokens > kMostTokens) {
    return "takes at most " + std::to_string(kMostTokens) + " tokens, since its plan counts them in 32 bits";
  }
  return std::nullopt;
}

TilePlan make_tile_plan(const Problem& problem, const TileShape& shape) {
  const auto axes = problem.axes3();
  TilePlan plan;
  plan.header.shape = shape;
  plan.header.extra_tokens = static_cast<int32_t>(problem.extra_tokens);
  plan.header.extra_tiles = static_cast<int32_t>(geometry::ceil_div(problem.extra_tokens, shape.keys));
  for (int32_t i = 0; i < axes[0].dilation; ++i) {
    for (int32_t j = 0; j < axes[1].dilation; ++j) {
      for (int32_t k = 0; k < axes[2].dilation; ++k) {
        Group group{{i, j, k}, {}};
        for (int x = 0; x < kAxisCount; ++x) {
          group.length[x] = static_cast<int32_t>(axes[x].group_length(group.first[x]));
        }
        plan.groups.push_back(group);
      }
    }
  }
  const std::array lengths{GroupLengths(axes[0]), GroupLengths(axes[1]), GroupLengths(axes[2])};
  std::array<TilesOfAxis, kAxisCount> places;
  for (int x = 0; x < kAxisCount; ++x) places[x] = append_axis(lengths[x], axis_cut(shape, x), plan);
  append_query_tiles(lengths, places, plan);
  return plan;
}

TilePlan make_tile_plan(const Problem& problem, const GpuLimits& limits) {
  const std::vector<TileShape> shapes = tile_shapes(problem, limits, 1);
  if (shapes.empty()) {
    throw Error("no tiles fit into the " + std::to_string(limits.shared_bytes) +
                " bytes of shared memory that a thread block may have");
  }
  return make_tile_plan(problem, shapes.front());
}

float largest_lse(const Problem& problem) {
  constexpr double kLargestScore = 1e20, kOfSum = 100;  // the logarithm of a sum of weights is less
  const double largest = kLargestScore * std::abs(problem.effective_scale()) + kOfSum;
  return static_cast<float>(std::min<double>(largest, std::numeric_limits<float>::max()));
}

int64_t executed_flops(const TilePlan& plan, const Problem& problem) {
  const int64_t pairs = plan.visits * kWarpgroupQueries * plan.shape().keys;
  return problem.batch * problem.heads * pairs * 4 * padded_dim(problem);
}

}  // namespace nalab::gpu
