// Whether the warps of a thread block come to an end: the order of their waits and releases alone, as
// core/gpu/hopper/load.cuh, bias.cuh and compute.cuh have it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/core/gpu/walk.h"

namespace nalab::gpu::test {

/// The KV tiles of an item in the order of the walk.
struct ItemTiles {
  std::vector<std::array<bool, kWarpgroups>> visits;  ///< whether each warpgroup visits the tile
  std::size_t row_tiles = 1;                          ///< of a row of the layout's
  std::size_t rows = 0;                               ///< the tiles after them are of extra tokens

  explicit ItemTiles(const Block& block) {
    const int32_t* loop = block.shape().loop;
    row_tiles = static_cast<std::size_t>(block.along(loop[2]).kv_tiles);
    rows = static_cast<std::size_t>(block.along(loop[0]).kv_tiles * block.along(loop[1]).kv_tiles);
    for_each_box(block, [&](const Box& box) { visits.push_back({block.visits(0, box), block.visits(1, box)}); });
    visits.resize(visits.size() + static_cast<std::size_t>(block.plan.header.extra_tiles),
                  {block.active(0), block.active(1)});
  }
  /// One row of tiles.
  explicit ItemTiles(std::vector<std::array<bool, kWarpgroups>> row)
      : visits(std::move(row)), row_tiles(visits.size()), rows(1) {}
};

/// What may be in another order than the kernel's, so that a thread block can stand still.
enum class Order {
  kernel,
  skips_with_product_pending,  ///< a warpgroup releases values, skipped ones too, only after its run of skips
  queries_before_last_keys,    ///< keys are loaded by the warp that loads queries, the last ones after those
};

/// The waits and releases of a thread block's warps for one item after the other. Keys, values and outer biases have
/// rings of stages, queries one place for each warpgroup; items have a ring that the warp of the queries fills.
class Rings {
 public:
  Rings(const TileShape& shape, Order order = Order::kernel) : shape_(shape), order_(order) {}

  bool finishes(const std::vector<ItemTiles>& items) const {
    std::vector<Warp> warps{keys(items), queries_and_values(items)};
    if (shape_.mask == MaskMode::one_hot) warps.push_back(outer_biases(items));
    for (std::size_t w = 0; w < kWarpgroups; ++w) warps.push_back(Warpgroup{shape_, order_, w}.of(items));
    Counts counts{};
    counts[turn(0)] = 1;
    bool moved = true;
    while (moved) {
      moved = false;
      for (Warp& warp : warps) {
        for (; warp.at < warp.steps.size(); ++warp.at, moved = true) {
          const Step& step = warp.steps[warp.at];
          if (step.at_least == 0) {
            ++counts[step.count];
          } else if (counts[step.count] < step.at_least) {
            break;
          }
        }
      }
    }
    return std::ranges::all_of(warps, [](const Warp& warp) { return warp.at == warp.steps.size(); });
  }

 private:
  // What is counted, all from 0.
  static constexpr std::size_t kKeysFull = 0, kValuesFull = 1, kRowsFull = 2, kQueriesFull = 3, kKeysEmpty = 5,
                               kValuesEmpty = 7, kRowsEmpty = 9, kQueriesEmpty = 11, kTurn = 13, kItemsFull = 15,
                               kItemsEmpty = 16, kCounts = 21;
  using Counts = std::array<int64_t, kCounts>;
  // Of the items; the warpgroups are 0 and 1.
  static constexpr std::size_t kKeysReader = 2, kValuesReader = 3, kBiasReader = 4;
  static constexpr int64_t kItems = 4;
  static constexpr std::size_t turn(std::size_t w) { return kTurn + w; }

  /// Waits until there are `at_least`, or counts one if that is 0.
  struct Step {
    std::size_t count;
    int64_t at_least;
  };
  struct Warp {
    std::size_t reader;  ///< of the items, from 0
    std::vector<Step> steps{};
    std::size_t at = 0;

    void wait(std::size_t count, int64_t at_least) {
      if (at_least > 0) steps.push_back({count, at_least});
    }
    void release(std::size_t count) { steps.push_back({count, 0}); }
    /// Fills the n-th place of a ring, when both warpgroups have released what it replaces.
    void fill(std::size_t full, std::size_t empty, int64_t n, int64_t stages) {
      for (std::size_t w = 0; w < kWarpgroups; ++w) wait(empty + w, n + 1 - stages);
      release(full);
    }
    /// Goes on to the n-th item, from 0.
    void next_item(int64_t n) {
      if (n > 0) release(kItemsEmpty + reader);
      wait(kItemsFull, n + 1);
    }
    /// Tells `readers` of it.
    void put_item(int64_t n, std::size_t readers) {
      for (std::size_t r = 0; r < readers; ++r) wait(kItemsEmpty + r, n + 1 - kItems);
      release(kItemsFull);
    }
    void fill_queries(int64_t item) {
      for (std::size_t w = 0; w < kWarpgroups; ++w) {
        wait(kQueriesEmpty + w, item);
        release(kQueriesFull + w);
      }
    }
  };

  Warp keys(const std::vector<ItemTiles>& items) const {
    Warp warp{kKeysReader};
    int64_t n = 0, item = 0, number = 0;
    const bool queries = order_ == Order::queries_before_last_keys;
    if (queries) warp.fill_queries(item++);
    for (const ItemTiles& tiles : items) {
      warp.next_item(number++);
      for (std::size_t t = 0; t < tiles.visits.size(); ++t) {
        if (queries && t + 1 == tiles.visits.size()) warp.fill_queries(item++);
        warp.fill(kKeysFull, kKeysEmpty, n++, shape_.stages);
      }
    }
    return warp;
  }

  Warp queries_and_values(const std::vector<ItemTiles>& items) const {
    Warp warp{kValuesReader};
    const std::size_t readers = shape_.mask == MaskMode::one_hot ? 5 : 4;
    int64_t n = 0, item = 0;
    warp.put_item(0, readers);
    for (const ItemTiles& tiles : items) {
      warp.next_item(item);
      if (order_ != Order::queries_before_last_keys) warp.fill_queries(item);
      warp.put_item(++item, readers);
      for (std::size_t t = 0; t < tiles.visits.size(); ++t) warp.fill(kValuesFull, kValuesEmpty, n++, shape_.stages);
    }
    return warp;
  }

  Warp outer_biases(const std::vector<ItemTiles>& items) const {
    Warp warp{kBiasReader};
    int64_t n = 0, item = 0;
    for (const ItemTiles& tiles : items) {
      warp.next_item(item++);
      for (std::size_t row = 0; row < tiles.rows; ++row) warp.fill(kRowsFull, kRowsEmpty, n++, kOuterBiases);
    }
    return warp;
  }

  /// As compute() has it.
  struct Warpgroup {
    const TileShape& shape;
    Order order;
    std::size_t w;
    Warp warp{w};
    int64_t first = 0, row = 0, item = 0, turns = 0;  ///< of all items
    std::size_t t = 0;                                ///< of the item at hand
    const ItemTiles* tiles = nullptr;

    Warp of(const std::vector<ItemTiles>& items) {
      for (const ItemTiles& next : items) {
        warp.next_item(item);
        tiles = &next;
        t = 0;
        compute();
        first += static_cast<int64_t>(next.visits.size());
        ++item;
      }
      return std::move(warp);
    }

    bool done() const { return t == tiles->visits.size(); }
    bool visited() const { return tiles->visits[t][w]; }
    bool in_layout() const { return t < tiles->rows * tiles->row_tiles; }
    bool is_last_visit() const {
      return std::none_of(tiles->visits.begin() + static_cast<std::ptrdiff_t>(t) + 1, tiles->visits.end(),
                          [&](const auto& visits) { return visits[w]; });
    }
    void begin_turn() {
      if (shape.ping_pong != 0) warp.wait(turn(w), ++turns);
    }
    void end_turn() {
      if (shape.ping_pong != 0) warp.release(turn(1 - w));
    }
    void wait_for(std::size_t full, std::size_t tile) { warp.wait(full, first + static_cast<int64_t>(tile) + 1); }
    void enter_row() {
      if (shape.mask == MaskMode::one_hot && in_layout()) warp.wait(kRowsFull, row + 1);
    }
    /// Moves on. Returns whether a row has ended, which is for leave_row().
    bool next() {
      const bool ended = shape.mask == MaskMode::one_hot && in_layout() && (t + 1) % tiles->row_tiles == 0;
      ++t;
      row += ended ? 1 : 0;
      return ended;
    }
    void leave_row(bool ended) {
      if (!ended) return;
      warp.release(kRowsEmpty + w);
      enter_row();
    }
    /// Returns how many tiles' values are still to be released.
    int skip_unvisited(bool in_turn, bool pending) {
      int held = 0;
      while (!done() && !visited()) {
        if (!in_turn) begin_turn();
        in_turn = false;
        end_turn();
        wait_for(kKeysFull, t);
        warp.release(kKeysEmpty + w);
        if (pending) {
          ++held;
        } else {
          wait_for(kValuesFull, t);
          warp.release(kValuesEmpty + w);
        }
        leave_row(next());
      }
      return held;
    }

    void compute() {
      warp.wait(kQueriesFull + w, item + 1);
      enter_row();
      skip_unvisited(false, false);
      if (done()) {
        warp.release(kQueriesEmpty + w);
        begin_turn();
        end_turn();
        return;
      }
      std::size_t place = 0;
      bool together = false;
      const auto finish_scores = [&](bool values) {
        place = t;
        const bool last = is_last_visit(), ended = next();
        together = !done() && visited();
        if (values) warp.release(kValuesEmpty + w);
        warp.release(kKeysEmpty + w);
        if (last) warp.release(kQueriesEmpty + w);
        leave_row(ended);
      };
      wait_for(kKeysFull, t);
      begin_turn();
      end_turn();
      finish_scores(false);
      while (true) {
        if (together) wait_for(kKeysFull, t);
        wait_for(kValuesFull, place);
        begin_turn();
        if (!together) {
          const bool pending = order == Order::skips_with_product_pending;
          if (!pending) warp.release(kValuesEmpty + w);
          if (done() && !pending) break;
          const int held = skip_unvisited(true, pending);
          for (int i = 0; pending && i <= held; ++i) warp.release(kValuesEmpty + w);
          if (!done()) wait_for(kKeysFull, t);
          if (held > 0 || !pending) begin_turn();
          if (done()) break;
        }
        end_turn();
        finish_scores(together);
      }
      end_turn();
    }
  };

  TileShape shape_;
  Order order_;
};

}  // namespace nalab::gpu::test
