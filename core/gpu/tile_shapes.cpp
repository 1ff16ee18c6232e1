// Which shapes of tiles there are, and which of them suits a problem.
//
// The cost is that of the tensor cores' work, masked pairs included, with a toll for each visit, box and thread block.
// It says nothing about caches, and about the two warpgroups only that they run side by side.
#include "core/gpu/tile_shapes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "core/gpu/plan.h"

namespace nalab::gpu {

namespace {

using Triple = std::array<int32_t, kAxisCount>;

// Tolls, fitted to the times of shapes on an H100 (docs/gpu_times.md). The unit is the time of one
// column of a warpgroup's score tile: what a visit and a thread block cost besides the products, and a key of a box in
// shared memory.
constexpr double kVisitToll = 38;
/// What is added to a visit where shared memory holds no more than two tiles of keys; without a one-hot mask, whose
/// toll was fitted to shapes of two.
constexpr double kTwoStagesToll = 4;
constexpr double kBlockToll = 470;
constexpr double kBoxToll = 0.15;
/// Of the products' time, what a mask adds.
constexpr double kOneHotToll = 0.12;
constexpr double kRowRangesToll = 0.03;
/// The outer biases of a row of tiles take about as long to prepare as this many tiles to compute. Meanwhile the row
/// before is computed; if it has fewer tiles, the tensor cores wait.
constexpr double kTilesOfBias = 1.05;

constexpr int32_t kMostStages = 4;

/// All triples of a product.
std::vector<Triple> triples(int32_t product) {
  std::vector<Triple> found;
  for (int32_t a = 1; a <= product; ++a) {
    if (product % a != 0) continue;
    for (int32_t b = 1; b <= product / a; ++b) {
      if (product / a % b == 0) found.push_back({a, b, product / a / b});
    }
  }
  return found;
}

/// What the tiles along an axis sum up to, over all dilation groups. The sums of a problem are products of them.
struct AxisSum {
  double tiles = 0;
  double boxes = 0;                 ///< KV tiles of the query tiles
  double visits[kWarpgroups] = {};  ///< KV tiles that each warpgroup visits
  double active[kWarpgroups] = {};  ///< query tiles in which it has queries
  double most_visits = 0;           ///< of a warpgroup in one query tile
  int32_t most_partial = 0;         ///< visited tiles of a warpgroup in one query tile that are not full
};

void add(const std::vector<AxisTile>& tiles, double groups, AxisSum& sum) {
  for (const AxisTile& tile : tiles) {
    sum.tiles += groups;
    sum.boxes += groups * tile.kv_tiles;
    for (int w = 0; w < kWarpgroups; ++w) {
      const int32_t any = tile.any[w].end - tile.any[w].begin, full = tile.full[w].end - tile.full[w].begin;
      sum.visits[w] += groups * any;
      sum.active[w] += any > 0 ? groups : 0;
      sum.most_visits = std::max(sum.most_visits, static_cast<double>(any));
      sum.most_partial = std::max(sum.most_partial, any - full);
    }
  }
}

/// The sums along the axes of a problem, each made once.
class AxisSums {
 public:
  explicit AxisSums(const Problem& problem) : axes_(problem.axes3()) {}

  const AxisSum& of(const TileShape& shape, int x) {
    const AxisCut cut = axis_cut(shape, x);
    const auto [place, made] = sums_.try_emplace({x, cut.query, cut.warpgroup, cut.kv}, AxisSum{});
    if (made) {
      const Axis& axis = axes_[static_cast<std::size_t>(x)];
      const int64_t longer = axis.extent % axis.dilation;
      if (longer > 0) add(axis_tiles(axis.group_mask(0), cut), static_cast<double>(longer), place->second);
      add(axis_tiles(axis.group_mask(axis.dilation - 1), cut), static_cast<double>(axis.dilation - longer),
          place->second);
    }
    return place->second;
  }

 private:
  std::array<Axis, kAxisCount> axes_;
  std::map<std::tuple<int, int32_t, int32_t, int32_t>, AxisSum> sums_;
};

/// The rows of a one-hot mask for a warpgroup's tile. False if there are not enough of them.
bool set_rows(TileShape& shape) {
  std::fill_n(shape.rows, kMaskRows, MaskRow{{-1, -1, -1}});
  const auto extent = [&](int loop) { return shape.warpgroup[shape.loop[loop]]; };
  const int32_t outer = std::max(extent(0), extent(1)), lesser = std::min(extent(0), extent(1));
  const int32_t outer_rows = lesser == 1 ? outer : outer + lesser;
  if (extent(2) > kInnerMaskRows || outer_rows > kMaskRows - kInnerMaskRows) return false;
  for (int32_t i = 0; i < extent(2); ++i) shape.rows[i].coordinate[shape.loop[2]] = static_cast<int8_t>(i);
  MaskRow* row = shape.rows + kInnerMaskRows;
  if (lesser == 1) {  // an axis of one coordinate shares the rows of the other
    for (int32_t i = 0; i < extent(0); ++i) {
      for (int32_t j = 0; j < extent(1); ++j, ++row) {
        row->coordinate[shape.loop[0]] = static_cast<int8_t>(i);
        row->coordinate[shape.loop[1]] = static_cast<int8_t>(j);
      }
    }
  } else {
    for (int axis = 0; axis < 2; ++axis) {
      for (int32_t i = 0; i < extent(axis); ++i, ++row) {
        row->coordinate[shape.loop[axis]] = static_cast<int8_t>(i);
      }
    }
  }
  return true;
}

/// Chooses how the shape hides masked pairs. False if it has no way.
bool set_mask(TileShape& shape, AxisSums& sums) {
  bool full = true, one_coordinate = true;
  for (int loop = 0; loop < kAxisCount; ++loop) {
    const int x = shape.loop[loop];
    full = full && sums.of(shape, x).most_partial == 0;
    one_coordinate = one_coordinate && (loop == 2 || (shape.query[x] == 1 && shape.kv[x] == 1));
  }
  shape.bias_slots = 0;
  if (full) {
    shape.mask = MaskMode::none;
  } else if (one_coordinate) {
    shape.mask = MaskMode::row_ranges;
  } else {
    shape.mask = MaskMode::one_hot;
    shape.bias_slots = 1 + sums.of(shape, shape.loop[2]).most_partial;
    return set_rows(shape);
  }
  std::fill_n(shape.rows, kMaskRows, MaskRow{{-1, -1, -1}});
  return true;
}

/// Expected time of a warpgroup's visit, in columns of a score tile.
double visit_cost(const TileShape& shape, AxisSums& sums) {
  const double toll = kVisitToll + (shape.stages == 2 ? kTwoStagesToll : 0);
  if (shape.mask == MaskMode::none) return shape.keys + toll;
  if (shape.mask == MaskMode::row_ranges) return shape.keys * (1 + kRowRangesToll) + toll;
  const AxisSum& inner = sums.of(shape, shape.loop[2]);
  const double wait = std::max(1.0, kTilesOfBias * inner.tiles / inner.boxes);
  return wait * (shape.keys * (1 + kOneHotToll) + kVisitToll);
}

/// Expected time on the GPU, in columns of a score tile.
double cost(const TileShape& shape, const Problem& problem, const GpuLimits& limits, AxisSums& sums) {
  double blocks = 1, boxes = 1, most_visits = 1, visits = 0, active = 0;
  for (int x = 0; x < kAxisCount; ++x) {
    blocks *= sums.of(shape, x).tiles;
    boxes *= sums.of(shape, x).boxes;
    most_visits *= sums.of(shape, x).most_visits;
  }
  for (int w = 0; w < kWarpgroups; ++w) {
    double of_warpgroup = 1, active_tiles = 1;
    for (int x = 0; x < kAxisCount; ++x) {
      of_warpgroup *= sums.of(shape, x).visits[w];
      active_tiles *= sums.of(shape, x).active[w];
    }
    visits += of_warpgroup;
    active += active_tiles;
  }
  const double extra = std::ceil(static_cast<double>(problem.extra_tokens) / shape.keys);
  const double of_visit = visit_cost(shape, sums);
  const double of_box = kBoxToll * shape.keys;
  const double all = (visits + active * extra) * of_visit + (boxes + blocks * extra) * of_box + blocks * kBlockToll;
  const double heaviest = (most_visits + extra) * (kWarpgroups * of_visit + of_box) + kBlockToll;
  const auto copies = static_cast<double>(problem.heads * problem.batch);
  // Blocks are handed out heavy ones first: the last to finish is late by half a block, as a rule.
  return std::max(heaviest, all * copies / limits.multiprocessors + heaviest / 2);
}

/// Chooses the mask, and the deepest rings that fit. False if the shape cannot run.
bool complete(TileShape& shape, const Problem& problem, const GpuLimits& limits, AxisSums& sums) {
  if (!set_mask(shape, sums) || shape.keys > most_keys(padded_dim(problem), shape.mask)) return false;
  shape.ping_pong = 1;  // faster nearly everywhere (docs/gpu.md, "Results")
  for (shape.stages = kMostStages; shape.stages >= 2; --shape.stages) {
    if (shared_bytes(shape, problem) <= limits.shared_bytes) return true;
  }
  return false;
}

/// The shapes that a layout has use for, with nothing but extents. `room`: no tile is longer along an axis, other than
/// the inner one; a row of queries and a row of keys along that always remains.
std::vector<TileShape> extents_of_tiles(const Triple& room) {
  std::vector<TileShape> shapes;
  const auto append = [&](int32_t inner, int32_t keys, const Triple& warpgroup, const Triple& kv) {
    for (int32_t x = 0; x < kAxisCount; ++x) {
      if (x != inner && std::max(warpgroup[x], kv[x]) > room[x]) return;
    }
    TileShape& shape = shapes.emplace_back();
    std::ranges::copy(warpgroup, shape.query);
    std::ranges::copy(warpgroup, shape.warpgroup);
    std::ranges::copy(kv, shape.kv);
    shape.query[inner] *= kWarpgroups;
    shape.loop[0] = inner == 0 ? 1 : 0;
    shape.loop[1] = inner == 2 ? 1 : 2;
    shape.loop[2] = inner;
    shape.keys = keys;
  };
  const bool one_token = room == Triple{1, 1, 1};
  const auto warpgroups = triples(kWarpgroupQueries);
  for (const int keys : kKeyCounts) {
    const auto kv_tiles = triples(keys);
    for (int32_t inner = 0; inner < kAxisCount; ++inner) {
      if (room[inner] == 1 && !one_token) continue;
      for (const Triple& warpgroup : warpgroups) {
        for (const Triple& kv : kv_tiles) append(inner, keys, warpgroup, kv);
      }
    }
  }
  return shapes;
}

}  // namespace

AxisCut axis_cut(const TileShape& shape, int x) { return {shape.query[x], shape.warpgroup[x], shape.kv[x]}; }

std::vector<TileShape> tile_shapes(const Problem& problem, const GpuLimits& limits, std::size_t most) {
  const auto axes = problem.axes3();
  Triple room;
  for (int x = 0; x < kAxisCount; ++x) {
    room[x] = static_cast<int32_t>(std::bit_ceil(static_cast<uint64_t>(axes[x].group_length(0))));
  }
  AxisSums sums(problem);
  std::vector<std::pair<double, TileShape>> found;
  for (TileShape& shape : extents_of_tiles(room)) {
    if (complete(shape, problem, limits, sums)) found.emplace_back(cost(shape, problem, limits, sums), shape);
  }
  std::ranges::stable_sort(found, std::ranges::less{}, [](const auto& shape) { return shape.first; });
  found.resize(std::min(found.size(), most));
  std::vector<TileShape> shapes;
  for (const auto& [time, shape] : found) shapes.push_back(shape);
  return shapes;
}

int64_t padded_dim(const Problem& problem) { return std::max(problem.head_dim, problem.head_dim_v) <= 64 ? 64 : 128; }

int64_t shared_bytes(const TileShape& shape, const Problem& problem) {
  constexpr int64_t kElement = 2;
  int64_t bytes = (kTileQueries + 2 * shape.stages * shape.keys) * padded_dim(problem) * kElement;
  if (shape.mask == MaskMode::one_hot) {
    const int64_t biases = kWarpgroups * shape.bias_slots + kOuterBiases;
    bytes += biases * shape.keys * kInnerMaskRows * kElement;
  }
  return bytes + kBarrierBytes;
}

std::string to_string(const TileShape& shape) {
  constexpr const char* kMasks[] = {"none", "one_hot", "row_ranges"};
  const auto extents = [](const int32_t* e) {
    return std::to_string(e[0]) + "x" + std::to_string(e[1]) + "x" + std::to_string(e[2]);
  };
  return "q" + extents(shape.query) + "_split" + std::to_string(shape.loop[2] + 1) + "_kv" + extents(shape.kv) + "_n" +
         std::to_string(shape.keys) + "_stages" + std::to_string(shape.stages) + "_" +
         kMasks[static_cast<int>(shape.mask)] + (shape.ping_pong != 0 ? "_ping_pong" : "");
}

}  // namespace nalab::gpu
