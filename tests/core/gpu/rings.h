// Whether two warpgroups and the loads of their KV tiles come to an end: the order of waits and releases alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/core/gpu/walk.h"

namespace nalab::gpu::test {

/// Keys and values have a ring of `stages` tiles each. A load waits until both warpgroups have released the tile that
/// it replaces. A warpgroup that visits a tile waits for its keys; then, its scores on the way, for the values of the
/// tile that it visited before, whose product was pending; with it done, it releases those values, and what values it
/// has skipped since, and last the keys. A tile that it skips costs the wait for its keys, which it releases at once.
class Rings {
 public:
  using Visits = std::array<std::vector<bool>, kWarpgroups>;

  explicit Rings(int stages) : stages_(stages) {}

  /// `visits`: the tiles in the order of the walk, whether each warpgroup visits them.
  bool finishes(const Visits& visits) const {
    const auto tiles = static_cast<int64_t>(visits[0].size());
    std::array<Warpgroup, kWarpgroups> warpgroups;
    const auto loaded = [&](int64_t Warpgroup::*released) {
      return std::min(warpgroups[0].*released, warpgroups[1].*released) + stages_;
    };
    while (true) {
      bool moved = false;
      for (int w = 0; w < kWarpgroups; ++w) {
        const int64_t keys = loaded(&Warpgroup::keys), values = loaded(&Warpgroup::values);
        moved =
            step(warpgroups[static_cast<std::size_t>(w)], visits[static_cast<std::size_t>(w)], keys, values) || moved;
      }
      if (std::ranges::all_of(warpgroups, [&](const Warpgroup& w) { return w.values == tiles && w.keys == tiles; })) {
        return true;
      }
      if (!moved) return false;
    }
  }

  bool finishes(const Block& block) const {
    Visits visits;
    const auto append = [&](auto visited) {
      for (int w = 0; w < kWarpgroups; ++w) visits[static_cast<std::size_t>(w)].push_back(visited(w));
    };
    for_each_box(block, [&](const Box& box) { append([&](int w) { return block.visits(w, box); }); });
    for (int t = 0; t < block.plan.header.extra_tiles; ++t) append([&](int w) { return block.active(w); });
    return finishes(visits);
  }

 private:
  struct Warpgroup {
    int64_t tile = 0;      ///< that it is at
    int64_t keys = 0;      ///< tiles whose keys it has released
    int64_t values = 0;    ///< tiles whose values it has released
    int64_t pending = -1;  ///< tile whose product with the values is still to be made
  };

  /// One tile of a warpgroup, or the end. `keys`, `values`: tiles that are loaded, or can be.
  static bool step(Warpgroup& w, const std::vector<bool>& visits, int64_t keys, int64_t values) {
    const auto tiles = static_cast<int64_t>(visits.size());
    if (w.tile == tiles) {
      if (w.values == tiles || (w.pending >= 0 && w.pending >= values)) return false;
      w.values = tiles;
      return true;
    }
    if (w.tile >= keys) return false;
    if (visits[static_cast<std::size_t>(w.tile)]) {
      if (w.pending >= 0 && w.pending >= values) return false;
      w.values = w.tile;
      w.pending = w.tile;
    } else if (w.pending < 0) {
      w.values = w.tile + 1;
    }
    w.keys = ++w.tile;
    return true;
  }

  int stages_;
};

}  // namespace nalab::gpu::test
