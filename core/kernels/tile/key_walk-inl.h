// The walk of a super tile over the keys that its queries attend to, which a pass drives:
//
//   KeyWalk<Arithmetic> walk(...);
//   while (walk.next_block()) {
//     for (const Segment& segment : walk.segments()) pack its rows
//     for (int64_t i = 0; i < walk.tiles(); ++i) {
//       if (const KeyList keys = walk.keys_of(i); keys.count > 0) query tile i visits the packed keys
//     }
//   }
//
// The keys are taken in blocks: each block is packed once and visited by all query tiles of the super tile. The mask is
// separable, so a query tile sees a box of keys; window, stride, dilation and causality decide which box and which
// lanes, and nothing else here knows of them. Extra tokens are more keys that every lane attends to.
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>

#include "core/kernels/tile/bias.h"
#include "core/kernels/tile/fetch.h"
#include "core/kernels/tile/lanes.h"
#include "core/kernels/tile/segments.h"
#include "core/kernels/tile/super_tiles.h"
#include "core/kernels/tile/tile_arithmetic-inl.h"
#include "core/tensor/workspace.h"
#include "core/tensors.h"

#if defined(NALAB_CORE_KERNELS_TILE_KEY_WALK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_TILE_KEY_WALK_INL_H_
#undef NALAB_CORE_KERNELS_TILE_KEY_WALK_INL_H_
#else
#define NALAB_CORE_KERNELS_TILE_KEY_WALK_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace nalab::tile::HWY_NAMESPACE {

/// Rows of one kv head: `count` keys and values, a step apart in their tensors.
template <class T>
struct KeyRows {
  const T* key;
  int64_t key_step;
  const T* value;
  int64_t value_step;
  int64_t count;
};

/// Memory for the list of keys that a query tile visits.
struct ListMemory {
  int32_t* index;           ///< [rows of a block + padding]
  uint32_t* lanes;          ///< [rows of a block + padding]
  int32_t* bias = nullptr;  ///< [rows of a block + padding]; null without a bias
};

inline ListMemory take_list(const Problem& problem, int64_t rows, WorkspaceCutter& cutter) {
  return {cutter.take<int32_t>(rows), cutter.take<uint32_t>(rows),
          problem.relative_bias ? cutter.take<int32_t>(rows) : nullptr};
}

/// Stands at a block of keys of one super tile.
template <TileArithmetic Arithmetic>
class KeyWalk {
  static constexpr int Lanes = Arithmetic::kLanes;
  static constexpr int kRows = Arithmetic::kRows;
  static constexpr uint32_t kAll = kAllLanes<Lanes>;

 public:
  /// Begins before the first block. Lists are written to `memory`; `places` number the biases of their keys.
  HWY_ATTR KeyWalk(const Problem& problem, const Tiling& tiling, const LaneShape& shape, const BiasPlaces& places,
                   const Inputs& in, const SuperTile& super, const ListMemory& memory)
      : problem_(problem),
        tiling_(tiling),
        places_(places),
        in_(in),
        memory_(memory),
        axes_(problem.axes3()),
        super_(super),
        far_(is_far(problem)) {
    for (int axis = 0; axis < 3; ++axis) mask_[axis] = axes_[axis].group_mask(super.group[axis]);
    const TileCut cut(super.tokens, tiling.query);
    tiles_ = cut.count();
    for (int64_t i = 0; i < tiles_; ++i) lanes_[i].assign(mask_, cut.box(i), shape, tiling.kv);
    cursor_ = KeyCursor(keys_of_super(super), problem.extra_tokens);
  }

  /// The query tiles of the super tile.
  int64_t tiles() const { return tiles_; }
  /// Whether rows are fetched before they are needed.
  bool far() const { return far_; }
  /// The lanes of query tile i whose queries are not beyond the layout, as bits.
  uint32_t inside(int64_t i) const { return lanes_[i].inside(); }
  /// Coordinates of the query on a lane of query tile i.
  Token query(int64_t i, int lane) const { return coordinates(axes_, super_.group, lanes_[i].query(lane)); }

  /// The keys that the queries of a super tile of this dilation group attend to, in whole KV tiles.
  geometry::Box keys_of_super(const SuperTile& super) const {
    geometry::Box keys = geometry::keys_of_any(mask_, super.tokens);
    for (int axis = 0; axis < 3; ++axis) {
      keys[axis] = geometry::TileAxis{mask_[axis].length, tiling_.kv[axis]}.covering(keys[axis]);
    }
    return keys;
  }

  /// The places of all keys that the query tiles visit: a box, and extra tokens have none of them.
  geometry::Box places_of_keys() const {
    geometry::Box box;
    for (int axis = 0; axis < 3; ++axis) {
      box[axis] = {places_.extent(axis), 0};
      for (int64_t i = 0; i < tiles_; ++i) {
        const geometry::Range places = places_.along(axis, lanes_[i].first(axis), lanes_[i].keys(axis));
        box[axis] = {std::min(box[axis].begin, places.begin), std::max(box[axis].end, places.end)};
      }
    }
    return box;
  }

  /// A number for the first key of a segment that grows along every walk over this dilation group, by one from a key of
  /// a segment to the next. Extra tokens come last, with the same numbers for all groups.
  int64_t order_of(const Segment& segment) const {
    const int64_t run =
        segment.is_extra() ? kExtraOrder : (segment.x1 * mask_[1].length + segment.x2) * mask_[2].length;
    return run + segment.x3.begin;
  }
  /// order_of the first key after the block; greater than all numbers after the last block. Never the greatest number
  /// of all, which says that a task has ended: it may have more to add than to keys.
  int64_t order_of_next() const {
    return cursor_.done() ? std::numeric_limits<int64_t>::max() - 1 : order_of(cursor_.next());
  }

  /// Moves to the next block; false after the last.
  bool HWY_ATTR next_block() {
    first_block_ = segments().empty();
    block_.take(cursor_, tiling_.block_keys, Arithmetic::kKeyAlignment);
    return !segments().empty();
  }

  /// Rows of the block, unused ones between segments included.
  int64_t used() const { return block_.used(); }
  std::span<const Segment> segments() const { return block_.segments(); }

  /// Calls f(KeyRows<T>) with the rows of a segment of the block in their tensors, whose element type is T. During the
  /// first block the rows that follow are prefetched; later blocks are prefetched while the block before is visited.
  template <class F>
  void HWY_ATTR with_rows(const Segment& segment, const F& f) const {
    if (first_block_) {
      KeyCursor following = cursor_.after(segment);
      Prefetch(following, segment.x3.size());
    }
    WithRows(segment, f);
  }

  /// Calls f(view, token, step): a segment's first key in `view`, shaped as k or v (or those of the extra tokens), and
  /// the distance of its keys.
  template <class View, class F>
  void HWY_ATTR with_place(const Segment& segment, const View& layout, const View& extra, const F& f) const {
    const bool is_extra = segment.is_extra();
    const View& view = is_extra ? extra : layout;
    const Token first = is_extra ? Token{0, 0, segment.x3.begin}
                                 : coordinates(axes_, super_.group, {segment.x1, segment.x2, segment.x3.begin});
    f(view, first, view.strides.layout[2] * (is_extra ? 1 : axes_[2].dilation));
  }

  /// The keys of the block that lie in the box of query tile i, with the lanes that attend to them; to be asked for all
  /// tiles in order. Prefetches a share of the next block.
  KeyList HWY_ATTR keys_of(int64_t i) {
    if (i == 0) ahead_ = cursor_;
    Prefetch(ahead_, geometry::ceil_div(tiling_.block_keys, tiles_));
    return ListKeys(lanes_[i]);
  }

 private:
  static constexpr int64_t kExtraOrder = int64_t{1} << 62;

  /// Calls f with the rows of a segment in their tensors.
  template <class F>
  void HWY_ATTR WithRows(const Segment& segment, const F& f) const {
    const bool extra = segment.is_extra();
    const ConstTensorView &keys = extra ? in_.extra_k : in_.k, &values = extra ? in_.extra_v : in_.v;
    const Token at = extra ? Token{0, 0, segment.x3.begin}
                           : coordinates(axes_, super_.group, {segment.x1, segment.x2, segment.x3.begin});
    const int64_t dilation = extra ? 1 : axes_[2].dilation;
    with_element_type(keys.type, [&](auto element) HWY_ATTR {
      using T = decltype(element);
      if constexpr (Arithmetic::template kAccepts<T>) {
        const TokenView<const T> k = keys.as<T>(), v = values.as<T>();
        f(KeyRows<T>{k.row(super_.batch, at[0], at[1], at[2], super_.head_kv), k.strides.layout[2] * dilation,
                     v.row(super_.batch, at[0], at[1], at[2], super_.head_kv), v.strides.layout[2] * dilation,
                     segment.x3.size()});
      }
    });
  }

  /// Prefetches the next `count` rows from a cursor on, and moves it, if they are far: hardware sees no pattern from
  /// one run to the next, and waits cost more than copying.
  void HWY_ATTR Prefetch(KeyCursor& ahead, int64_t count) const {
    if (!far_) return;
    while (count > 0 && !ahead.done()) {
      const Segment segment = ahead.take(count);
      count -= segment.x3.size();
      WithRows(segment, [&](const auto& rows) HWY_ATTR {
        for (int64_t n = 0; n < rows.count; ++n) {
          fetch_row<CacheLevel::second>(rows.key + n * rows.key_step, problem_.head_dim);
          fetch_row<CacheLevel::second>(rows.value + n * rows.value_step, problem_.head_dim_v);
        }
      });
    }
  }

  /// Calls list_rows(rows of the block, set_lanes(target), set_biases(target)) for every run of keys in the box of a
  /// query tile: the setters write a number for each row of the run.
  template <class ListRows>
  void HWY_ATTR ForEachRun(const LaneTile& lanes, const ListRows& list_rows) const {
    // Runs of a box are mostly alike: the lanes that attend along the last axis are worked out once.
    uint32_t along_run[kMaxBlockKeys];
    uint32_t along_all = kAll;
    geometry::Range run;
    for (const Segment& segment : segments()) {
      if (segment.is_extra()) {
        const int64_t count = segment.x3.size();
        list_rows(
            {segment.first, segment.first + count},
            [=](uint32_t* target) {
              std::fill_n(target, count, kAll);
              return kAll;
            },
            [](int32_t*) {});
        continue;
      }
      const geometry::Range x3 = geometry::intersect(segment.x3, lanes.keys(2));
      if (!lanes.keys(0).contains(segment.x1) || !lanes.keys(1).contains(segment.x2) || x3.empty()) continue;
      if (x3 != run) along_all = lanes.attending_run(2, x3, kAll, along_run);
      run = x3;
      const uint32_t row = lanes.attending(0, segment.x1) & lanes.attending(1, segment.x2);
      const int64_t offset = segment.first - segment.x3.begin;
      list_rows(
          {x3.begin + offset, x3.end + offset},
          [&](uint32_t* target) HWY_ATTR {
            for (int64_t i = 0; i < x3.size(); ++i) target[i] = row & along_run[i];
            return row & along_all;
          },
          [&](int32_t* target) {
            const int64_t u1 = places_.along(0, lanes.first(0), segment.x1);
            const int64_t u2 = places_.along(1, lanes.first(1), segment.x2);
            if (!places_.contains(u1, u2)) return;
            const geometry::Range u3 = places_.along(2, lanes.first(2), x3);
            if (u3.empty()) return;
            target += u3.begin - places_.along(2, lanes.first(2), x3.begin);
            const auto number = static_cast<int32_t>(places_.number(u1, u2, u3.begin));
            for (int32_t i = 0; i < static_cast<int32_t>(u3.size()); ++i) target[i] = number + i;
          });
    }
  }

  KeyList ListKeys(const LaneTile& lanes) const {
    if constexpr (Arithmetic::kGroup > 1) {
      return ListGroups(lanes);
    } else {
      return ListRows(lanes);
    }
  }

  KeyList ListRows(const LaneTile& lanes) const {
    int64_t n = 0;
    uint32_t common = kAll;
    // Runs that are not aligned are filled up with rows that no lane attends to.
    ForEachRun(lanes, [&](geometry::Range rows, const auto& set_lanes, const auto& set_biases) {
      constexpr int64_t kAlignment = Arithmetic::kKeyAlignment;
      const int64_t before = rows.begin % kAlignment;
      const int64_t after = geometry::ceil_div(rows.end, kAlignment) * kAlignment - rows.end;
      if (before + after > 0) common = 0;
      std::fill_n(memory_.lanes + n, before, 0u);
      common &= set_lanes(memory_.lanes + n + before);
      std::fill_n(memory_.lanes + n + before + rows.size(), after, 0u);
      if (memory_.bias != nullptr) {
        std::fill_n(memory_.bias + n, before + rows.size() + after, static_cast<int32_t>(places_.none()));
        set_biases(memory_.bias + n + before);
      }
      for (int64_t row = rows.begin - before; row < rows.end + after; ++row) {
        memory_.index[n++] = static_cast<int32_t>(row);
      }
    });
    const int64_t count = n;
    for (; n % kRows != 0; ++n) {
      memory_.index[n] = memory_.index[count - 1];
      memory_.lanes[n] = 0;
      if (memory_.bias != nullptr) memory_.bias[n] = static_cast<int32_t>(places_.none());
    }
    return {memory_.index, memory_.lanes, count, common == kAll, memory_.bias};
  }

  /// All groups that hold a key of the tile, with the lanes (and biases) of all rows of the block.
  KeyList ListGroups(const LaneTile& lanes) const {
    constexpr int64_t kGroup = Arithmetic::kGroup;
    const int64_t rows_of_groups = geometry::ceil_div(used(), kGroup) * kGroup;
    std::fill_n(memory_.lanes, rows_of_groups, 0u);
    if (memory_.bias != nullptr) {
      std::fill_n(memory_.bias, rows_of_groups, static_cast<int32_t>(places_.none()));
    }
    int64_t count = 0, listed = 0, next = 0;
    uint32_t common = kAll;
    ForEachRun(lanes, [&](geometry::Range rows, const auto& set_lanes, const auto& set_biases) {
      common &= set_lanes(memory_.lanes + rows.begin);
      if (memory_.bias != nullptr) set_biases(memory_.bias + rows.begin);
      listed += rows.size();
      // Runs come in the order of their rows.
      next = for_each_group(rows, kGroup, next,
                            [&](int64_t group) { memory_.index[count++] = static_cast<int32_t>(group); });
    });
    return {memory_.index, memory_.lanes, count, common == kAll && listed == count * kGroup, memory_.bias};
  }

  const Problem& problem_;
  const Tiling& tiling_;
  const BiasPlaces& places_;
  const Inputs& in_;
  const ListMemory memory_;
  const std::array<Axis, 3> axes_;
  const SuperTile super_;
  const bool far_;
  geometry::GroupMask mask_;
  LaneTile lanes_[kMaxQueryTiles];
  int64_t tiles_ = 0;

  KeyCursor cursor_, ahead_;
  bool first_block_ = true;
  KeyBlock block_;
};

}  // namespace nalab::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_TILE_KEY_WALK_INL_H_
