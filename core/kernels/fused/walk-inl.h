// The walk of a super tile over the keys that its queries attend to: what both passes share.
//
// The keys are taken in blocks: each block is packed once and visited by all micro tiles of the super tile. The mask is
// separable, so a micro tile sees a box of keys; window, stride, dilation and causality decide which box and which
// lanes, and nothing else here knows of them. Extra tokens are more keys that every lane attends to.
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>

#include "core/kernels/attention.h"
#include "core/kernels/fused/lanes.h"
#include "core/kernels/fused/supers.h"
#include "core/kernels/fused/tile-inl.h"
#include "core/kernels/token_rows.h"

#if defined(NALAB_CORE_KERNELS_FUSED_WALK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NALAB_CORE_KERNELS_FUSED_WALK_INL_H_
#undef NALAB_CORE_KERNELS_FUSED_WALK_INL_H_
#else
#define NALAB_CORE_KERNELS_FUSED_WALK_INL_H_
#endif

#ifndef NALAB_CORE_KERNELS_FUSED_WALK_ONCE
#define NALAB_CORE_KERNELS_FUSED_WALK_ONCE

namespace nalab::fused {

/// Rows and columns of register tiles are at most this many: what lists and panels may be padded by.
inline constexpr int64_t kMaxRows = 8;

inline int64_t padded(int64_t n) { return n + kMaxRows; }

/// A cache line between panels of packed values: at a multiple of 4 KiB from each other they would share a set of the
/// first-level cache.
inline constexpr int64_t kPanelGap = 16;

/// Memory for the list of keys that a micro tile visits.
struct ListMemory {
  int32_t* index;   ///< [block_keys padded]
  uint32_t* lanes;  ///< [block_keys padded]
};

/// A run of keys along the last axis that lies in a block from row `first` on. x1 is negative for extra tokens.
struct Segment {
  int64_t x1, x2;
  geometry::Range x3;
  int64_t first = 0;
};

}  // namespace nalab::fused

#endif  // NALAB_CORE_KERNELS_FUSED_WALK_ONCE

HWY_BEFORE_NAMESPACE();
namespace nalab::fused::HWY_NAMESPACE {

/// Packed rows of one kv head: `count` keys and values, a step apart in their tensors.
template <class T>
struct KeyRows {
  const T* key;
  int64_t key_step;
  const T* value;
  int64_t value_step;
  int64_t count;
};

/// One walk. What is done on the way is the pass's, the derived class's:
///   void PackRows(const KeyRows<T>& rows)             packs keys from row used() of the block on
///   void Visit(int64_t i, const KeyList& list)        micro tile i visits the packed block
///   void BlockVisited(int64_t next)                   all micro tiles have visited the block; no key comes again whose
///                                                     place() is before the next one's
template <class Arithmetic, class Derived>
class Walk {
  static constexpr int Lanes = Arithmetic::kLanes;
  static constexpr int kRows = Arithmetic::kRows;
  static constexpr uint32_t kAll = kAllLanes<Lanes>;

 protected:
  static constexpr int64_t kMaxPlaced = 16;

  Walk(const Problem& problem, const Tiles& tiles, const LaneShape& shape, const Inputs& in, const ListMemory& memory)
      : problem_(problem), tiles_(tiles), shape_(shape), in_(in), memory_(memory), axes_(problem.axes3()) {}

  /// Cuts the queries into micro tiles.
  void HWY_ATTR Place(const Super& super) {
    super_ = super;
    for (int axis = 0; axis < 3; ++axis) mask_[axis] = axes_[axis].group_mask(super.group[axis]);
    placed_ = 0;
    std::array<geometry::TileAxis, 3> cut;
    for (int axis = 0; axis < 3; ++axis) cut[axis] = {super.queries[axis].size(), tiles_.micro[axis]};
    for (int64_t i = 0; i < cut[0].count(); ++i) {
      for (int64_t j = 0; j < cut[1].count(); ++j) {
        for (int64_t k = 0; k < cut[2].count(); ++k) {
          geometry::Box box{cut[0].range(i), cut[1].range(j), cut[2].range(k)};
          for (int axis = 0; axis < 3; ++axis) {
            box[axis].begin += super.queries[axis].begin;
            box[axis].end += super.queries[axis].begin;
          }
          lanes_[placed_++].place(mask_, box, shape_, tiles_.kv);
        }
      }
    }
  }

  /// The keys that the queries of a super tile of this dilation group attend to.
  geometry::Box keys_of(const Super& super) const {
    geometry::Box keys = geometry::keys_of_any(mask_, super.queries);
    for (int axis = 0; axis < 3; ++axis) {
      keys[axis] = geometry::TileAxis{mask_[axis].length, tiles_.kv[axis]}.covering(keys[axis]);
    }
    return keys;
  }

  /// Where the first key of a segment stands in the order of every walk over this dilation group, its size away from
  /// the first key after it. Extra tokens come last, in one order for all groups.
  int64_t place(const Segment& segment) const {
    const int64_t run = segment.x1 < 0 ? kExtraPlace : (segment.x1 * mask_[1].length + segment.x2) * mask_[2].length;
    return run + segment.x3.begin;
  }
  static constexpr int64_t kExtraPlace = int64_t{1} << 62;

  /// Packs and visits all keys of the placed queries.
  void HWY_ATTR VisitKeys() {
    cursor_ = Cursor(keys_of(super_), problem_.extra_tokens);
    bool first_block = true;
    while (!cursor_.done()) {
      used_ = 0;
      segments_ = 0;
      while (used_ < tiles_.block_keys && segments_ < kMaxSegments && !cursor_.done()) {
        Segment& segment = segment_[segments_++];
        segment = cursor_.take(tiles_.block_keys - used_);
        segment.first = used_;
        // The rows of later blocks are prefetched while the block before them is visited.
        if (first_block) {
          Cursor ahead = cursor_;
          Prefetch(ahead, segment.x3.size());
        }
        WithRows(segment, [&](const auto& rows) HWY_ATTR { static_cast<Derived*>(this)->PackRows(rows); });
        used_ = geometry::ceil_div(used_ + segment.x3.size(), Arithmetic::kKeyAlignment) * Arithmetic::kKeyAlignment;
      }
      first_block = false;
      VisitBlock();
    }
  }

  Token coordinates(const Token& position) const {
    Token token;
    for (int axis = 0; axis < 3; ++axis) token[axis] = axes_[axis].coordinate(super_.group[axis], position[axis]);
    return token;
  }

  /// Coordinates of the query on a lane of micro tile i.
  Token query(int64_t i, int lane) const { return coordinates(lanes_[i].query(lane)); }

  int64_t used() const { return used_; }
  std::span<const Segment> segments() const { return {segment_, static_cast<std::size_t>(segments_)}; }

  const Problem& problem_;
  const Tiles& tiles_;
  const LaneShape& shape_;
  const Inputs& in_;
  const ListMemory& memory_;
  const std::array<Axis, 3> axes_;

  Super super_;
  geometry::GroupMask mask_;
  LaneTile lanes_[kMaxPlaced];
  int64_t placed_ = 0;

 private:
  /// Where the walk stands: runs of keys along the last axis, in row-major order, then the extra tokens.
  class Cursor {
   public:
    Cursor() = default;
    Cursor(const geometry::Box& keys, int64_t extra) : keys_(keys), extra_(extra) {
      at_ = {keys[0].begin, keys[1].begin, keys[2].begin};
      if (keys[0].empty() || keys[1].empty() || keys[2].empty()) at_ = {keys[0].end, 0, 0};
    }

    bool done() const { return in_extra() && at_[2] == extra_; }

    /// The first of the keys that come next. Requires that the walk is not done.
    Segment next() const { return Cursor(*this).take(1); }

    /// The next keys of a run, at most `room`. Requires that the walk is not done.
    Segment take(int64_t room) {
      const int64_t end = in_extra() ? extra_ : keys_[2].end;
      const geometry::Range x3{at_[2], std::min(end, at_[2] + room)};
      const Segment segment = in_extra() ? Segment{-1, -1, x3} : Segment{at_[0], at_[1], x3};
      at_[2] = x3.end;
      if (!in_extra() && x3.end == end) NextRun();
      return segment;
    }

   private:
    bool in_extra() const { return at_[0] == keys_[0].end; }
    void NextRun() {
      at_[2] = keys_[2].begin;
      if (++at_[1] < keys_[1].end) return;
      at_[1] = keys_[1].begin;
      if (++at_[0] == keys_[0].end) at_[2] = 0;
    }

    geometry::Box keys_;
    int64_t extra_ = 0;
    Token at_{};
  };

  /// Calls f with the rows of a segment in their tensors.
  template <class F>
  void HWY_ATTR WithRows(const Segment& segment, const F& f) const {
    const bool extra = segment.x1 < 0;
    const ConstTensorView &keys = extra ? in_.extra_k : in_.k, &values = extra ? in_.extra_v : in_.v;
    const Token at = extra ? Token{0, 0, segment.x3.begin} : coordinates({segment.x1, segment.x2, segment.x3.begin});
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

  /// Prefetches the next `count` rows from a cursor on, and moves it: hardware sees no pattern from one run to the
  /// next, and waits for the third-level cache cost more than copying.
  void HWY_ATTR Prefetch(Cursor& ahead, int64_t count) const {
    while (count > 0 && !ahead.done()) {
      const Segment segment = ahead.take(count);
      count -= segment.x3.size();
      WithRows(segment, [&](const auto& rows) HWY_ATTR {
        for (int64_t n = 0; n < rows.count; ++n) {
          PrefetchRow(rows.key + n * rows.key_step, problem_.head_dim);
          PrefetchRow(rows.value + n * rows.value_step, problem_.head_dim_v);
        }
      });
    }
  }

  template <class T>
  static void PrefetchRow(const T* row, int64_t dim) {
    constexpr int64_t kLine = static_cast<int64_t>(kAlignment / sizeof(T));
    for (int64_t c = 0; c < dim; c += kLine) __builtin_prefetch(row + c, 0, 2);
  }

  /// All micro tiles visit the block, and the next one is prefetched little by little.
  void HWY_ATTR VisitBlock() {
    Cursor ahead = cursor_;
    const int64_t share = geometry::ceil_div(tiles_.block_keys, placed_);
    for (int64_t i = 0; i < placed_; ++i) {
      Prefetch(ahead, share);
      const KeyList list = ListKeys(lanes_[i]);
      if (list.count > 0) static_cast<Derived*>(this)->Visit(i, list);
    }
    static_cast<Derived*>(this)->BlockVisited(cursor_.done() ? std::numeric_limits<int64_t>::max()
                                                             : place(cursor_.next()));
  }

  /// The keys of the block that lie in a micro tile's box, with the lanes that attend to them.
  KeyList ListKeys(const LaneTile& lanes) {
    int64_t n = 0;
    uint32_t common = kAll;
    // Runs that are not aligned are filled up with rows that no lane attends to.
    const auto list_rows = [&](geometry::Range rows, auto&& set_lanes) {
      constexpr int64_t kAlignment = Arithmetic::kKeyAlignment;
      const int64_t before = rows.begin % kAlignment;
      const int64_t after = geometry::ceil_div(rows.end, kAlignment) * kAlignment - rows.end;
      if (before + after > 0) common = 0;
      std::fill_n(memory_.lanes + n, before, 0u);
      set_lanes(memory_.lanes + n + before);
      std::fill_n(memory_.lanes + n + before + rows.size(), after, 0u);
      for (int64_t row = rows.begin - before; row < rows.end + after; ++row) {
        memory_.index[n++] = static_cast<int32_t>(row);
      }
    };
    for (int64_t s = 0; s < segments_; ++s) {
      const Segment& segment = segment_[s];
      if (segment.x1 < 0) {
        const int64_t count = segment.x3.size();
        list_rows({segment.first, segment.first + count}, [=](uint32_t* target) { std::fill_n(target, count, kAll); });
        continue;
      }
      const geometry::Range x3 = geometry::intersect(segment.x3, lanes.keys(2));
      if (!lanes.keys(0).contains(segment.x1) || !lanes.keys(1).contains(segment.x2) || x3.empty()) continue;
      const uint32_t row = lanes.attending(0, segment.x1) & lanes.attending(1, segment.x2);
      const int64_t offset = segment.first - segment.x3.begin;
      list_rows({x3.begin + offset, x3.end + offset},
                [&](uint32_t* target) { common &= lanes.attending_run(2, x3, row, target); });
    }
    const int64_t count = n;
    for (; n % kRows != 0; ++n) {
      memory_.index[n] = memory_.index[count - 1];
      memory_.lanes[n] = 0;
    }
    return {memory_.index, memory_.lanes, count, common == kAll};
  }

  static constexpr int64_t kMaxSegments = 256;

  Cursor cursor_;
  Segment segment_[kMaxSegments];
  int64_t segments_ = 0;
  int64_t used_ = 0;
};

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_FUSED_WALK_INL_H_
