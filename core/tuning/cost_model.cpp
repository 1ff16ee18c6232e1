#include "core/tuning/cost_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace nalab::tuning {

namespace {

using geometry::KvTiling;
using Shape = std::array<int64_t, 3>;

// Bytes that a super tile's queries and sums, a block of keys and values, and the scores of a query tile and a block
// may take: half and a quarter of a second-level cache of 1 MiB, and a first-level cache of 32 KiB. All runs in
// docs/performance.md were made with these, so larger caches get no more (twice as much made no difference
// there). Smaller ones get the same shares of what they have.
constexpr int64_t kTileBytes = 512 << 10;
constexpr int64_t kBlockBytes = 256 << 10;
constexpr int64_t kScoreBytes = 32 << 10;
// A block of fewer keys is not worth its set-up.
constexpr int64_t kLeastBlockKeys = 64;
// Query tiles of a super tile, at most, where keys are multiplied with vectors.
constexpr int64_t kVectorTiles = 16;
// Time to pack a key, relative to that of a query tile's visit to it. With all rows in a first-level cache it is 0.13
// at head_dim 128 and 0.19 at 32 (build/release/bench/tiles_bench, packing against scores, softmax and values of 32
// lanes; AMD Zen 4, AVX-512), and more when rows come from further away. The runs behind docs/performance.md were made
// with 0.5.
constexpr double kPackCost = 0.5;
// The same on a matrix unit, whose visits take an eighth of the time.
constexpr double kMatrixPackCost = 2.0;
// Keys of a visit on a matrix unit come in groups of so many rows of a block.
constexpr int64_t kMatrixGroup = 32;
// Keys of a block and query tiles, at most, in the backward pass on a matrix unit: of 64 to 256 keys and 8 to 32 tiles
// these were best (docs/matrix_unit.md).
constexpr int64_t kMatrixGradientKeys = 256;
constexpr int64_t kMatrixGradientTiles = 16;
// Time of a visit with 16 lanes, relative to one with 32: half the products at 85 % of the rate, which is what a
// register tile of one vector reaches (RegisterTile in core/kernels/tile/float_tile-inl.h).
constexpr double kHalfVisitCost = 0.6;
// Tasks are spread over this many threads in the cost model, whatever the machine has: tilings, and with them the bits
// of the results, must not depend on the thread count.
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

/// A share of a cache, or the size measured with if the cache is larger or unknown.
int64_t budget(int64_t cache_bytes, int64_t share, int64_t measured) {
  return cache_bytes > 0 ? std::min(cache_bytes / share, measured) : measured;
}

/// The costs of one problem in one pass.
class CostModel {
 public:
  CostModel(const Problem& problem, Pass pass, const Arithmetic& arithmetic, const Machine& machine)
      : problem_(problem),
        pass_(pass),
        machine_(machine),
        parts_(arithmetic.parts(pass)),
        axes_(problem.axes3()),
        heads_per_kv_(problem.heads / problem.heads_kv) {
    // Forward: a query and its sums, a key and a value. Backward: q and dout on lanes and as rows, dq; k as rows and in
    // panels, v, dk and dv.
    row_bytes_ = pass == Pass::forward ? 4 * (problem.head_dim + problem.head_dim_v)
                                       : 4 * (3 * problem.head_dim + 2 * problem.head_dim_v);
  }

  /// Query tiles, the one with the least cost first.
  std::vector<Tiling> query_tiles() const {
    struct Candidate {
      Tiling tiling;
      double cost;
    };
    std::vector<Candidate> found;
    for (const int64_t lanes : {32, 16}) {
      if (parts_ > 0 && lanes < 32) continue;
      for (int64_t x1 = 1; x1 <= lanes; x1 *= 2) {
        for (int64_t x2 = 1; x1 * x2 <= lanes; x2 *= 2) {
          const Shape shape{x1, x2, lanes / (x1 * x2)};
          found.push_back({{.query = shape, .lanes = lanes}, visits(shape) * (lanes == 32 ? 1.0 : kHalfVisitCost)});
        }
      }
    }
    // At equal cost longer runs along the last axis are better: keys are adjacent there. They come first.
    std::stable_sort(found.begin(), found.end(),
                     [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; });
    std::vector<Tiling> tilings;
    for (const Candidate& candidate : found) tilings.push_back(candidate.tiling);
    return tilings;
  }

  /// Adds what goes with a query tile: the block of keys, the heads and the super tile.
  void complete(Tiling& tiling) const {
    const int64_t block_bytes = budget(machine_.l2_bytes, 4, kBlockBytes);
    const int64_t score_bytes = budget(machine_.l1d_bytes, 1, kScoreBytes);
    const int64_t tile_bytes = budget(machine_.l2_bytes, 2, kTileBytes);
    int64_t most = 0;
    if (parts_ > 0) {
      const MatrixBytes bytes = matrix_bytes();
      const int64_t weights =
          std::min(score_bytes / (bytes.weight * tiling.lanes) / kMatrixGroup * kMatrixGroup, bytes.most_keys);
      tiling.block_keys = std::clamp<int64_t>(bytes.blocks * block_bytes / bytes.key / kMatrixGroup * kMatrixGroup,
                                              kLeastBlockKeys, std::max(weights, kLeastBlockKeys));
      const int64_t tile = tiling.lanes * (bytes.query + bytes.kept_weight * tiling.block_keys);
      most = std::clamp<int64_t>(bytes.shares * tile_bytes / tile, 1, bytes.most_tiles);
    } else {
      tiling.block_keys = std::clamp<int64_t>(block_bytes / row_bytes_ / 8 * 8, kLeastBlockKeys,
                                              std::max(score_bytes / (4 * tiling.lanes) / 8 * 8, kLeastBlockKeys));
      most = std::clamp<int64_t>(tile_bytes / (tiling.lanes * row_bytes_), 1, kVectorTiles);
    }
    tiling.heads = std::min(heads_per_kv_, most);
    while (heads_per_kv_ % tiling.heads != 0) --tiling.heads;
    tiling.super = best_super_tile(tiling, most / tiling.heads);
  }

 private:
  /// What is kept in cache on a matrix unit, in bytes, and the limits that were measured to be best.
  struct MatrixBytes {
    int64_t key;          ///< of a block
    int64_t query;        ///< of a super tile
    int64_t weight;       ///< of a pair of them in a visit: its weight's parts
    int64_t kept_weight;  ///< of a pair of them in a block, until all query tiles have visited it
    int64_t most_keys, most_tiles;
    int64_t blocks, shares;  ///< how often the budgets of a block and of the query tiles are allowed
  };
  MatrixBytes matrix_bytes() const {
    const int64_t part = 2 * parts_, dim = problem_.head_dim, dim_v = problem_.head_dim_v;
    if (pass_ == Pass::forward) {
      return {part * (dim + dim_v), part * dim + 4 * dim_v, part, 0, kMaxBlockKeys, kMaxQueryTiles, 1, 2};
    }
    // k as rows and in panels, v, dk and dv; q and dout on lanes and in pairs, dq; weights and their gradients.
    return {part * (2 * dim + dim_v) + 4 * (dim + dim_v),
            part * 2 * (dim + dim_v) + 4 * dim,
            part,
            2 * part,
            kMatrixGradientKeys,
            kMatrixGradientTiles,
            2,
            3};
  }

  template <class Count>
  double product_along(const Count& count, const Shape& shape) const {
    double product = 1;
    for (int axis = 0; axis < geometry::kAxes; ++axis) product *= static_cast<double>(count(axes_[axis], shape[axis]));
    return product;
  }

  /// Keys visited, over all tiles of a shape.
  double visits(const Shape& shape) const {
    return product_along([](const Axis& axis, int64_t tile) { return visited_along(axis, tile, 1); }, shape) +
           static_cast<double>(problem_.extra_tokens) * product_along(tiles_along, shape);
  }

  /// Keys that query tiles of super tiles visit. On a matrix unit they come in whole groups of those that are packed
  /// together: along the last axis all of the super tile's, or but for the ends of a long run.
  double visits_by_tiles(const Shape& query, const Shape& super) const {
    if (parts_ == 0) return visits(query);
    const Axis& last = axes_[2];
    const int64_t whole = super[2] / query[2] * visited_along(last, super[2], 1);
    const int64_t ends = visited_along(last, query[2], 1) + (kMatrixGroup - 1) * tiles_along(last, query[2]);
    const double share =
        static_cast<double>(std::min(whole, ends)) / static_cast<double>(visited_along(last, query[2], 1));
    return visits(query) * share;
  }

  /// The shape of at most `limit` query tiles with the least time for visits and packing, in waves of tasks.
  Shape best_super_tile(const Tiling& tiling, int64_t limit) const {
    Shape count, best{1, 1, 1};
    for (int axis = 0; axis < geometry::kAxes; ++axis) {
      count[axis] = geometry::ceil_div(axes_[axis].group_length(0), tiling.query[axis]);
    }
    const int64_t head_steps = heads_per_kv_ / tiling.heads;
    const int64_t tasks_of_a_tile = problem_.batch * problem_.heads_kv * head_steps;
    const double heads = static_cast<double>(heads_per_kv_);
    const double pack_cost = parts_ > 0 ? kMatrixPackCost : kPackCost;
    double best_cost = std::numeric_limits<double>::infinity();
    for (int64_t s1 = 1; s1 <= std::min(limit, count[0]); ++s1) {
      for (int64_t s2 = 1; s1 * s2 <= limit && s2 <= count[1]; ++s2) {
        for (int64_t s3 = 1; s1 * s2 * s3 <= limit && s3 <= count[2]; ++s3) {
          const Shape shape{tiling.query[0] * s1, tiling.query[1] * s2, tiling.query[2] * s3};
          const double tasks = product_along(tiles_along, shape) * static_cast<double>(tasks_of_a_tile);
          const double waves = tasks / static_cast<double>(kThreads);
          const double imbalance = std::ceil(waves) / waves;
          const double packs = visits(shape) * static_cast<double>(head_steps);
          const double cost = (visits_by_tiles(tiling.query, shape) * heads + pack_cost * packs) * imbalance;
          if (cost <= best_cost) {
            best_cost = cost;
            best = {s1, s2, s3};
          }
        }
      }
    }
    return best;
  }

  const Problem& problem_;
  const Pass pass_;
  const Machine& machine_;
  const int64_t parts_;  ///< of an element on a matrix unit; 0 without one
  const std::array<Axis, 3> axes_;
  const int64_t heads_per_kv_;
  int64_t row_bytes_;
};

}  // namespace

std::vector<Tiling> candidates(const Problem& problem, Pass pass, const Arithmetic& arithmetic, KvTiling kv_tiling,
                               const Machine& machine, std::size_t most) {
  if (most == 0) return {};
  const CostModel model(problem, pass, arithmetic, machine);
  std::vector<Tiling> tilings = model.query_tiles();
  if (tilings.size() > most) tilings.resize(most);
  for (Tiling& tiling : tilings) {
    // Statically, a query tile and a KV tile of one shape.
    if (kv_tiling == KvTiling::static_tiles) tiling.kv = tiling.query;
    model.complete(tiling);
  }
  return tilings;
}

int64_t visited_pairs(const Problem& problem, const Tiling& tiling) {
  const auto axes = problem.axes3();
  int64_t keys = 1;
  int64_t count = 1;
  for (int axis = 0; axis < geometry::kAxes; ++axis) {
    keys *= visited_along(axes[axis], tiling.query[axis], tiling.kv[axis]);
    count *= tiles_along(axes[axis], tiling.query[axis]);
  }
  return tiling.lanes * (keys + count * problem.extra_tokens);
}

}  // namespace nalab::tuning
