// Whether two warpgroups and the loads of their KV tiles come to an end: the order of waits and releases alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "tests/core/gpu/walk.h"

namespace nalab::gpu::test {

/// Keys and values have a ring of `stages` tiles each. A load waits until both warpgroups have released the tile that
/// it replaces. A warpgroup that visits a tile waits for its keys, and for the values of the tile that it visited
/// before, whose product was pending; with both products done it releases those values and these keys. Before it skips
/// a tile it finishes what is pending; then it waits for the tile and releases it. With turns, the warpgroups take a
/// tile each after the other, skipped ones too.
class Rings {
 public:
  using Visits = std::array<std::vector<bool>, kWarpgroups>;

  /// finish_before_skips: false for a warpgroup that skips with a product pending, and releases values only after it.
  Rings(int stages, bool turns, bool finish_before_skips = true)
      : stages_(stages), turns_(turns), finish_before_skips_(finish_before_skips) {}

  /// `visits`: the tiles in the order of the walk, whether each warpgroup visits them.
  bool finishes(const Visits& visits) const {
    const auto tiles = static_cast<int64_t>(visits[0].size());
    std::array<Warpgroup, kWarpgroups> warpgroups;
    const auto loaded = [&](int64_t Warpgroup::*released) {
      return std::min(warpgroups[0].*released, warpgroups[1].*released) + stages_;
    };
    while (true) {
      bool moved = false;
      for (std::size_t w = 0; w < kWarpgroups; ++w) {
        const bool has_turn =
            warpgroups[w].tile < tiles && warpgroups[w].tile == warpgroups[1 - w].tile - (w == 1 ? 1 : 0);
        if (turns_ && !has_turn && warpgroups[w].tile < tiles) continue;
        moved = step(warpgroups[w], visits[w], loaded(&Warpgroup::keys), loaded(&Warpgroup::values)) || moved;
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
  bool step(Warpgroup& w, const std::vector<bool>& visits, int64_t keys, int64_t values) const {
    const auto tiles = static_cast<int64_t>(visits.size());
    const bool stuck = w.pending >= values;
    if (w.tile == tiles) {
      if (w.values == tiles || stuck) return false;
      w.values = tiles;
      return true;
    }
    if (visits[static_cast<std::size_t>(w.tile)]) {
      if (w.tile >= keys || stuck) return false;
      w.values = w.pending = w.tile;
    } else if (finish_before_skips_) {
      if (stuck) return false;
      if (w.pending >= 0) {  // a step of its own: it waits for no tile
        w.values = w.tile;
        w.pending = -1;
        return true;
      }
      if (w.tile >= keys || w.tile >= values) return false;
      w.values = w.tile + 1;
    } else {
      if (w.tile >= keys) return false;
      if (w.pending < 0) w.values = w.tile + 1;
    }
    w.keys = ++w.tile;
    return true;
  }

  int stages_;
  bool turns_;
  bool finish_before_skips_;
};

}  // namespace nalab::gpu::test
