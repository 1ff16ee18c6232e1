// Relative positional biases of a query tile, as vectors of lanes: one for every place that a key can have relative to
// the tile. They follow from the table and the shape of the tile alone, so that a call makes them once, and every key
// of every tile finds its vector by a number that grows by one along the last axis. Gathering the lanes' biases from
// the table would cost as much as a fifth of the products.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/geometry/bias.h"
#include "core/parallel.h"
#include "core/problem.h"
#include "core/tensor/tensor.h"
#include "core/tensor/workspace.h"
#include "core/tiling.h"

namespace nalab::tile {

/// The places of keys relative to the first query of a tile.
class BiasPlaces {
 public:
  BiasPlaces(const std::array<Axis, 3>& axes, const std::array<int64_t, 3>& query) {
    for (int axis = 0; axis < 3; ++axis) {
      before_[axis] = axes[axis].window - 1;
      extents_[axis] = 2 * axes[axis].window - 1 + query[axis] - 1;
    }
  }

  /// Place along one axis of a key, for a tile whose first query is at `first`. Outside of [0, extent) no query of the
  /// tile attends to it.
  int64_t along(int axis, int64_t first, int64_t key) const { return key - first + before_[axis]; }
  /// The places along one axis of some keys.
  geometry::Range along(int axis, int64_t first, geometry::Range keys) const {
    return geometry::intersect({along(axis, first, keys.begin), along(axis, first, keys.end)}, {0, extents_[axis]});
  }
  /// Whether some query of a tile may attend to keys at a place along the first two axes.
  bool contains(int64_t u1, int64_t u2) const { return 0 <= u1 && u1 < extents_[0] && 0 <= u2 && u2 < extents_[1]; }
  int64_t number(int64_t u1, int64_t u2, int64_t u3) const { return (u1 * extents_[1] + u2) * extents_[2] + u3; }
  /// The number of keys without a bias: extra tokens, and those that no query of a tile attends to.
  int64_t none() const { return extents_[0] * extents_[1] * extents_[2]; }
  /// Numbers in all.
  int64_t count() const { return none() + 1; }
  int64_t extent(int axis) const { return extents_[axis]; }

 private:
  std::array<int64_t, 3> before_, extents_;
};

/// A table of one head with its last axis reversed and padded, so that along lanes, which are queries, the biases of a
/// key are a contiguous run.
class ReversedTable {
 public:
  ReversedTable(const geometry::BiasTable& table, const std::array<int64_t, 3>& query)
      : extents_(table.extents()), pad_(query[2] - 1), row_(extents_[2] + 2 * pad_) {}

  int64_t size() const { return extents_[0] * extents_[1] * row_; }
  /// Where the entry of an index along each axis stands.
  int64_t entry(int64_t i1, int64_t i2, int64_t i3) const {
    return (i1 * extents_[1] + i2) * row_ + pad_ + extents_[2] - 1 - i3;
  }
  /// Whether lanes at steps (s1, s2) of a tile have biases of a key at places (u1, u2).
  bool has_run(int64_t u1, int64_t u2, int64_t s1, int64_t s2) const {
    return 0 <= u1 - s1 && u1 - s1 < extents_[0] && 0 <= u2 - s2 && u2 - s2 < extents_[1];
  }
  /// Where the run of those lanes begins.
  int64_t run(int64_t u1, int64_t u2, int64_t u3, int64_t s1, int64_t s2) const { return entry(u1 - s1, u2 - s2, u3); }

 private:
  std::array<int64_t, 3> extents_;
  int64_t pad_, row_;
};

/// How biases are laid out for the query tiles of a tiling, by place and by entry.
struct BiasLayout {
  std::array<int64_t, 3> query;
  int64_t lanes;
  BiasPlaces places;
  geometry::BiasTable table;
  ReversedTable reversed;

  BiasLayout(const Problem& problem, const Tiling& tiling)
      : query(tiling.query),
        lanes(tiling.lanes),
        places(problem.axes3(), tiling.query),
        table(problem.axes3()),
        reversed(table, tiling.query) {}

  /// Floats of the vectors of all places.
  int64_t vectors() const { return places.count() * lanes; }
};

/// The biases of all heads of a call.
class TileBiases : private BiasLayout {
 public:
  TileBiases(const Problem& problem, const Tiling& tiling, WorkspaceCutter& cutter) : BiasLayout(problem, tiling) {
    if (!problem.relative_bias) return;
    vectors_ = cutter.take<float>(problem.heads * vectors());
    tables_ = cutter.take<float>(problem.heads * reversed.size());
  }

  using BiasLayout::places;
  /// [places][lanes] of a head; null without a bias.
  const float* of(int64_t head) const { return vectors_ == nullptr ? nullptr : vectors_ + head * vectors(); }

  /// Makes them. Nothing to do without a bias.
  void make(const ConstTensorView& rpb, Workers& workers) const {
    if (vectors_ == nullptr) return;
    const TokenView<const float> view = rpb.as<float>();
    workers.for_each(view.shape.batch, [&](int64_t head, int) { reverse(view, head); });
    workers.for_each(view.shape.batch * places.extent(0),
                     [&](int64_t task, int) { expand(task / places.extent(0), task % places.extent(0)); });
  }

 private:
  void reverse(const TokenView<const float>& view, int64_t head) const {
    float* const target = tables_ + head * reversed.size();
    std::fill_n(target, reversed.size(), 0.0f);
    const auto& [n1, n2, n3] = table.extents();
    for (int64_t i = 0; i < n1; ++i) {
      for (int64_t j = 0; j < n2; ++j) {
        for (int64_t k = 0; k < n3; ++k) target[reversed.entry(i, j, k)] = *view.row(head, i, j, k, 0);
      }
    }
  }

  /// The vectors of one head and one place along the first axis.
  void expand(int64_t head, int64_t u1) const {
    const float* const source = tables_ + head * reversed.size();
    float* target = vectors_ + head * vectors() + places.number(u1, 0, 0) * lanes;
    for (int64_t u2 = 0; u2 < places.extent(1); ++u2) {
      for (int64_t u3 = 0; u3 < places.extent(2); ++u3) {
        for (int64_t s1 = 0; s1 < query[0]; ++s1) {
          for (int64_t s2 = 0; s2 < query[1]; ++s2, target += query[2]) {
            if (reversed.has_run(u1, u2, s1, s2)) {
              std::copy_n(source + reversed.run(u1, u2, u3, s1, s2), query[2], target);
            } else {
              std::fill_n(target, query[2], 0.0f);
            }
          }
        }
      }
    }
    if (u1 == 0) std::fill_n(vectors_ + head * vectors() + places.none() * lanes, lanes, 0.0f);
  }

  float* vectors_ = nullptr;  ///< [heads][places][lanes]
  float* tables_ = nullptr;   ///< [heads][reversed table]
};

/// A task's sums of the gradients of scores: by place and lane, and then by entry of the table.
class PlaceSums : private BiasLayout {
 public:
  PlaceSums(const Problem& problem, const Tiling& tiling, WorkspaceCutter& cutter) : BiasLayout(problem, tiling) {
    if (!problem.relative_bias) return;
    by_place_ = cutter.take<float>(tiling.heads * vectors());
    by_entry_ = cutter.take<float>(tiling.heads * reversed.size());
    heads_ = tiling.heads;
  }

  /// [places][lanes] of a head of the task.
  float* of(int64_t h) const { return by_place_ + h * vectors(); }

  /// Begins the sums of a box of places.
  void set_to_zero(const geometry::Box& box) const {
    for (int64_t h = 0; h < heads_; ++h) {
      for_each_run(box, [&](int64_t u1, int64_t u2) {
        std::fill_n(of(h) + places.number(u1, u2, box[2].begin) * lanes, box[2].size() * lanes, 0.0f);
      });
      std::fill_n(of(h) + places.none() * lanes, lanes, 0.0f);
      std::fill_n(by_entry_ + h * reversed.size(), reversed.size(), 0.0f);
    }
  }

  /// Adds the sums of a box of places to those by entry.
  void fold(const geometry::Box& box, int64_t h) const {
    for_each_run(box, [&](int64_t u1, int64_t u2) {
      for (int64_t s1 = 0; s1 < query[0]; ++s1) {
        for (int64_t s2 = 0; s2 < query[1]; ++s2) {
          if (!reversed.has_run(u1, u2, s1, s2)) continue;
          const float* const from = of(h) + places.number(u1, u2, 0) * lanes + (s1 * query[1] + s2) * query[2];
          float* const to = by_entry_ + h * reversed.size() + reversed.run(u1, u2, 0, s1, s2);
          switch (query[2]) {
            case 1:
              add_runs<1>(box[2], from, to);
              break;
            case 2:
              add_runs<2>(box[2], from, to);
              break;
            case 4:
              add_runs<4>(box[2], from, to);
              break;
            case 8:
              add_runs<8>(box[2], from, to);
              break;
            case 16:
              add_runs<16>(box[2], from, to);
              break;
            default:
              add_runs<32>(box[2], from, to);
          }
        }
      }
    });
  }

  /// Adds them to sums [entries] in the order of the table.
  void add_to(int64_t h, double* sums) const {
    const float* const own = by_entry_ + h * reversed.size();
    const auto& [n1, n2, n3] = table.extents();
    for (int64_t i = 0; i < n1; ++i) {
      for (int64_t j = 0; j < n2; ++j) {
        const float* from = own + reversed.entry(i, j, 0);
        for (int64_t k = 0; k < n3; ++k) *sums++ += static_cast<double>(*from--);
      }
    }
  }

 private:
  /// Adds runs of N lanes of neighbouring places to the table, where the next one begins an entry before. They overlap
  /// but for one entry: taken one after the other, each would wait until the one before is written.
  template <int64_t N>
  void add_runs(geometry::Range u3, const float* from, float* to) const {
    for (int64_t turn = 0; turn < N; ++turn) {
      for (int64_t u = u3.begin + turn; u < u3.end; u += N) {
        for (int64_t k = 0; k < N; ++k) to[k - u] += from[u * lanes + k];
      }
    }
  }

  template <class Body>
  static void for_each_run(const geometry::Box& box, const Body& body) {
    for (int64_t u1 = box[0].begin; u1 < box[0].end; ++u1) {
      for (int64_t u2 = box[1].begin; u2 < box[1].end; ++u2) body(u1, u2);
    }
  }

  int64_t heads_ = 0;
  float* by_place_ = nullptr;  ///< [heads][places][lanes]
  float* by_entry_ = nullptr;  ///< [heads][reversed table]
};

}  // namespace nalab::tile
