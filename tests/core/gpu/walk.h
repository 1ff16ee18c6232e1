// The walk of a plan, as core/gpu/plan_data.h words it, for the tests that follow it.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "core/gpu/plan.h"

namespace nalab::gpu::test {

using Positions = std::array<int64_t, kAxisCount>;

/// A KV tile of a query tile.
struct Box {
  Positions tile;   ///< its index along each axis
  Positions begin;  ///< its first position
};

/// One query tile, with what its indices stand for.
struct Block {
  const TilePlan& plan;
  const QueryTile& tile;

  const TileShape& shape() const { return plan.shape(); }
  const Group& group() const { return plan.groups.at(static_cast<std::size_t>(tile.group)); }
  const AxisTile& along(int x) const { return plan.axis_tiles.at(static_cast<std::size_t>(tile.axis_tile[x])); }

  bool visits(int warpgroup, const Box& box) const { return in(box, &AxisTile::any, warpgroup); }
  bool full(int warpgroup, const Box& box) const { return in(box, &AxisTile::full, warpgroup); }
  bool active(int warpgroup) const {
    const Span any = along(shape().loop[2]).any[warpgroup];
    return any.begin < any.end;
  }

  /// Coordinates of a query of a warpgroup in the tile of that warpgroup; q counts in row-major order.
  Positions coordinates(int q) const {
    const int32_t* extent = shape().warpgroup;
    return {q / (extent[1] * extent[2]), q / extent[2] % extent[1], q % extent[2]};
  }
  /// Coordinates in the tile of both.
  Positions in_tile(int warpgroup, Positions coordinates) const {
    const int split = shape().loop[2];
    coordinates[static_cast<std::size_t>(split)] += warpgroup * shape().warpgroup[split];
    return coordinates;
  }
  /// The position of a query in its dilation group; it may lie beyond the end.
  Positions query(int warpgroup, int q) const {
    Positions position = in_tile(warpgroup, coordinates(q));
    for (int x = 0; x < kAxisCount; ++x) position[static_cast<std::size_t>(x)] += along(x).origin;
    return position;
  }
  /// The position of a key of a box; n counts in row-major order.
  Positions key(const Box& box, int n) const {
    const int32_t* extent = shape().kv;
    return {box.begin[0] + n / (extent[1] * extent[2]), box.begin[1] + n / extent[2] % extent[1],
            box.begin[2] + n % extent[2]};
  }
  bool inside(const Positions& position) const {
    for (std::size_t x = 0; x < kAxisCount; ++x) {
      if (position[x] < 0 || position[x] >= group().length[x]) return false;
    }
    return true;
  }

  /// The keys that a query, given by its coordinates in the tile of both, has along an axis.
  KeyRange keys(int x, int64_t coordinate) const {
    return plan.key_ranges.at(static_cast<std::size_t>(along(x).key_ranges + coordinate));
  }

 private:
  template <class Spans>
  bool in(const Box& box, Spans AxisTile::*spans, int warpgroup) const {
    for (int x = 0; x < kAxisCount; ++x) {
      const Span span = (along(x).*spans)[warpgroup];
      const int64_t t = box.tile[static_cast<std::size_t>(x)];
      if (t < span.begin || t >= span.end) return false;
    }
    return true;
  }
};

/// Calls f(box) for the KV tiles of a block in the order of the kernel.
template <class F>
void for_each_box(const Block& block, F f) {
  const int32_t* loop = block.shape().loop;
  Positions t;
  const auto at = [&](int level) -> int64_t& { return t[static_cast<std::size_t>(loop[level])]; };
  for (at(0) = 0; at(0) < block.along(loop[0]).kv_tiles; ++at(0)) {
    for (at(1) = 0; at(1) < block.along(loop[1]).kv_tiles; ++at(1)) {
      for (at(2) = 0; at(2) < block.along(loop[2]).kv_tiles; ++at(2)) {
        Box box{t, {}};
        for (int x = 0; x < kAxisCount; ++x) {
          const auto axis = static_cast<std::size_t>(x);
          box.begin[axis] = block.along(x).kv_begin + t[axis] * block.shape().kv[x];
        }
        f(box);
      }
    }
  }
}

/// What hides the masked pairs of a KV tile from a warpgroup that visits it.
class Bias {
 public:
  Bias(const Block& block, int warpgroup, const Box& box)
      : block_(block), warpgroup_(warpgroup), box_(box), hides_(!block.full(warpgroup, box)) {
    if (!hides_ || block.shape().mask != MaskMode::one_hot) return;
    for (int r = 0; r < kMaskRows; ++r) {
      for (int n = 0; n < block.shape().keys; ++n) rows_.push_back(entry(r, block.key(box, n)));
      for (int q = 0; q < kWarpgroupQueries; ++q) {
        if (one(r, q)) ones_[static_cast<std::size_t>(q)].push_back(r);
      }
    }
  }

  /// The bias of a query for a key of the box: 0, or far below.
  float of(int q, int n) const {
    const TileShape& shape = block_.shape();
    if (!hides_ || shape.mask == MaskMode::none) return 0;
    if (shape.mask == MaskMode::row_ranges) return masked(shape.loop[2], block_.coordinates(q), block_.key(box_, n));
    float sum = 0;
    for (const int r : ones_[static_cast<std::size_t>(q)]) sum += rows_[static_cast<std::size_t>(r * shape.keys + n)];
    return sum;
  }

 private:
  /// Whether the one-hot row of a query has a 1 there.
  bool one(int r, int q) const {
    const Positions coordinates = block_.coordinates(q);
    const int8_t* named = block_.shape().rows[r].coordinate;
    for (std::size_t x = 0; x < kAxisCount; ++x) {
      if (named[x] >= 0 && named[x] != coordinates[x]) return false;
    }
    return true;
  }

  float masked(int x, const Positions& coordinates, const Positions& key) const {
    const auto axis = static_cast<std::size_t>(x);
    const KeyRange keys = block_.keys(x, block_.in_tile(warpgroup_, coordinates)[axis]);
    return keys.begin <= key[axis] && key[axis] < keys.end ? 0 : kMasked;
  }

  /// What row r of the bias holds for a key. An inner row of a tile that is full along the inner axis is slot 0's.
  float entry(int r, const Positions& key) const {
    const TileShape& shape = block_.shape();
    const int inner = shape.loop[2];
    if (r < kInnerMaskRows) {
      const AxisTile& along = block_.along(inner);
      const auto t = static_cast<int>(box_.tile[static_cast<std::size_t>(inner)]);
      const int slot = inner_slot(along.any[warpgroup_], along.full[warpgroup_], t);
      if (slot >= shape.bias_slots) throw std::out_of_range("a bias without a slot");
      if (slot == 0) return 0;
    }
    float sum = 0;
    for (int x = 0; x < kAxisCount; ++x) {
      Positions named{};
      named[static_cast<std::size_t>(x)] = shape.rows[r].coordinate[x];
      if (shape.rows[r].coordinate[x] >= 0) sum += masked(x, named, key);
    }
    return sum;
  }

  const Block& block_;
  int warpgroup_;
  const Box& box_;
  bool hides_;
  std::vector<float> rows_;                               ///< [kMaskRows, keys]
  std::array<std::vector<int>, kWarpgroupQueries> ones_;  ///< rows in which a query has a 1
};

}  // namespace nalab::gpu::test
