#include "core/simulator/simulator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/simulator/counting.h"

namespace nalab::simulator {

using geometry::Axis;
using geometry::AxisMask;
using geometry::Range;
using geometry::TileAxis;
using geometry::TileView;
using geometry::view_of;

namespace {

constexpr double kMaxPairs = 9e18;

int64_t product(const std::vector<int64_t>& extents) {
  return std::accumulate(extents.begin(), extents.end(), int64_t{1}, std::multiplies<>());
}

void validate_tile(const char* parameter, const std::vector<int64_t>& tile, const Problem& problem) {
  if (static_cast<int>(tile.size()) != problem.rank()) {
    throw Error(std::string(parameter) + " has " + std::to_string(tile.size()) + " extents, but the layout " +
                layout_text(problem) + " has " + std::to_string(problem.rank()) + " axes");
  }
  for (size_t i = 0; i < tile.size(); ++i) {
    if (tile[i] >= 1 && tile[i] <= kMaxTileExtent) continue;
    throw Error(Violation{static_cast<int>(i) + 1, parameter, std::to_string(tile[i]),
                          "must be from 1 to " + std::to_string(kMaxTileExtent)}
                    .to_string());
  }
}

}  // namespace

int64_t TileShapes::query_tokens() const { return product(query); }
int64_t TileShapes::kv_tokens() const { return product(kv); }

void TileShapes::validate(const Problem& problem) const {
  validate_tile("q_tile", query, problem);
  validate_tile("kv_tile", kv, problem);
}

TileShapes published_tiles(int rank) {
  if (rank == 1) return {.query = {256}, .kv = {128}};
  if (rank == 2) return {.query = {16, 16}, .kv = {16, 8}};
  return {.query = {4, 8, 8}, .kv = {2, 8, 8}};
}

void validate(const Problem& problem, const TileShapes& tiles) {
  problem.validate();
  tiles.validate(problem);
  const double tokens = static_cast<double>(problem.tokens());
  if (tokens * (tokens + static_cast<double>(problem.extra_tokens)) > kMaxPairs) {
    throw Error("layout " + layout_text(problem) + " with " + std::to_string(problem.extra_tokens) +
                " extra tokens must be small enough for the pairs of self attention to be counted in 64 bits");
  }
}

std::vector<GroupKind> group_kinds(const Axis& axis) {
  const int64_t longer = axis.extent % axis.dilation;
  std::vector<GroupKind> kinds{{axis.group_mask(axis.dilation - 1), axis.dilation - longer}};
  if (longer > 0) kinds.push_back({axis.group_mask(0), longer});
  return kinds;
}

void Effort::require(int64_t count) const {
  if (count <= left_) return;
  throw Error("there are more than " + std::to_string(kMost) +
              " query tiles to look at; larger tiles or a smaller layout have fewer");
}

Simulation count_axis(const Axis& axis, int64_t query_tile, int64_t kv_tile, KvTiling tiling, Effort& effort) {
  Simulation counts{.query_tiles = 0,
                    .tiles_total = TileAxis{axis.extent, kv_tile}.count(),
                    .tiles_visited_worst = 0,
                    .tiles_visited = 0,
                    .tiles_full = 0,
                    .attended_pairs = axis.attended_pairs(),
                    .computed_pairs = 0,
                    .all_pairs = axis.extent * axis.extent};
  for (const GroupKind& kind : group_kinds(axis)) {
    const TileAxis query_tiles{kind.mask.length, query_tile};
    effort.add(query_tiles.count());
    counts.query_tiles += kind.count * query_tiles.count();
    for (int64_t i = 0; i < query_tiles.count(); ++i) {
      const Range queries = query_tiles.range(i);
      const TileView view = view_of(kind.mask, queries, kv_tile, tiling);
      counts.tiles_visited_worst = std::max(counts.tiles_visited_worst, view.visited.size());
      counts.tiles_visited += kind.count * view.visited.size();
      counts.tiles_full += kind.count * view.full.size();
      counts.computed_pairs += kind.count * queries.size() * view.keys;
    }
  }
  return counts;
}

Simulation operator*(const Simulation& a, const Simulation& b) {
  return {.query_tiles = a.query_tiles * b.query_tiles,
          .tiles_total = a.tiles_total * b.tiles_total,
          .tiles_visited_worst = a.tiles_visited_worst * b.tiles_visited_worst,
          .tiles_visited = a.tiles_visited * b.tiles_visited,
          .tiles_full = a.tiles_full * b.tiles_full,
          .attended_pairs = a.attended_pairs * b.attended_pairs,
          .computed_pairs = a.computed_pairs * b.computed_pairs,
          .all_pairs = a.all_pairs * b.all_pairs};
}

Simulation with_extra_tokens(Simulation layout, const Problem& problem, int64_t kv_tokens) {
  const int64_t tiles = geometry::ceil_div(problem.extra_tokens, kv_tokens);
  const int64_t pairs = problem.tokens() * problem.extra_tokens;
  layout.tiles_total += tiles;
  layout.tiles_visited_worst += tiles;
  layout.tiles_visited += tiles * layout.query_tiles;
  layout.tiles_full += tiles * layout.query_tiles;
  layout.attended_pairs += pairs;
  layout.computed_pairs += pairs;
  layout.all_pairs += pairs;
  return layout;
}

Simulation simulate(const Problem& problem, const TileShapes& tiles) {
  validate(problem, tiles);
  Simulation layout;
  Effort effort;
  if (tiles.tile_rank == TileRank::single_dimensional) {
    layout = count_flattened(problem.axes3(), tiles.query_tokens(), tiles.kv_tokens(), tiles.kv_tiling, effort);
  } else {
    for (int i = 0; i < problem.rank(); ++i) {
      layout = layout * count_axis(problem.axes[i], tiles.query[i], tiles.kv[i], tiles.kv_tiling, effort);
    }
  }
  return with_extra_tokens(layout, problem, tiles.kv_tokens());
}

void Application::validate() const {
  if (!(attention_share >= 0 && attention_share <= 1)) {
    throw Error("attention_share " + std::to_string(attention_share) + " must be from 0 to 1");
  }
  if (steps < 1) throw Error("steps " + std::to_string(steps) + " must be at least 1");
  if (dense_steps < 0 || dense_steps > steps) {
    throw Error("dense_steps " + std::to_string(dense_steps) + " must be from 0 to the steps, " +
                std::to_string(steps));
  }
}

double end_to_end_speedup(double speedup, const Application& application) {
  application.validate();
  const double share = application.attention_share * static_cast<double>(application.steps - application.dense_steps) /
                       static_cast<double>(application.steps);
  return 1.0 / ((1.0 - share) + share / speedup);
}

double round_as_published(double speedup) { return std::round(speedup * 10.0) / 10.0; }

double token_permutation_bytes(const Problem& problem) {
  if (problem.rank() == 1 && problem.axes[0].dilation == 1) return 0.0;
  const double tokens = static_cast<double>(problem.batch) * static_cast<double>(problem.tokens());
  const double dims = static_cast<double>(problem.head_dim) + static_cast<double>(problem.head_dim_v);
  const double heads = static_cast<double>(problem.heads) + static_cast<double>(problem.heads_kv);
  return 2.0 * static_cast<double>(size_of(problem.type)) * tokens * heads * dims;
}

}  // namespace nalab::simulator
