// The walk of a super tile over the keys that its queries attend to: what both passes share.
//
// The keys are taken in blocks: each block is packed once and visited by all micro tiles of the super tile. The mask is
// separable, so a micro tile sees a box of keys; window, stride, dilation and causality decide which box and which
// lanes, and nothing else here knows of them. Extra tokens are more keys that every lane attends to.
#include <algorithm>
#include <array>
#include <cstdint>
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
///   void BlockVisited()                               all micro tiles have visited the block
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
          lanes_[placed_++].place(mask_, box, shape_);
        }
      }
    }
  }

  /// Packs and visits all keys of the placed queries.
  void HWY_ATTR VisitKeys() {
    const geometry::Box keys = geometry::keys_of_any(mask_, super_.queries);
    used_ = 0;
    segments_ = 0;
    for (int64_t x1 = keys[0].begin; x1 < keys[0].end; ++x1) {
      for (int64_t x2 = keys[1].begin; x2 < keys[1].end; ++x2) AddRun(x1, x2, keys[2]);
    }
    AddRun(-1, -1, {0, problem_.extra_tokens});
    Flush();
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
  /// Packs as much of a run of keys as the block holds, visits a full block, and so on.
  void HWY_ATTR AddRun(int64_t x1, int64_t x2, geometry::Range x3) {
    while (!x3.empty()) {
      if (used_ == tiles_.block_keys || segments_ == kMaxSegments) Flush();
      Segment& segment = segment_[segments_++];
      segment = {x1, x2, {x3.begin, std::min(x3.end, x3.begin + tiles_.block_keys - used_)}, used_};
      x3.begin = segment.x3.end;
      const bool more = !x3.empty();
      if (x1 < 0) {
        Pack(in_.extra_k, in_.extra_v, {0, 0, segment.x3.begin}, 1, segment.x3.size(), more);
      } else {
        Pack(in_.k, in_.v, coordinates({x1, x2, segment.x3.begin}), axes_[2].dilation, segment.x3.size(), more);
      }
    }
  }

  void HWY_ATTR Pack(const ConstTensorView& keys, const ConstTensorView& values, const Token& first, int64_t dilation,
                     int64_t count, bool more) {
    with_element_type(keys.type, [&](auto element) HWY_ATTR {
      using T = decltype(element);
      if constexpr (Arithmetic::template kAccepts<T>) {
        PackOf<T>(keys.as<T>(), values.as<T>(), first, dilation, count, more);
      }
    });
    used_ = geometry::ceil_div(used_ + count, Arithmetic::kKeyAlignment) * Arithmetic::kKeyAlignment;
  }

  template <class T>
  void HWY_ATTR PackOf(const TokenView<const T>& keys, const TokenView<const T>& values, const Token& first,
                       int64_t dilation, int64_t count, bool more) {
    const KeyRows<T> rows{keys.row(super_.batch, first[0], first[1], first[2], super_.head_kv),
                          keys.strides.layout[2] * dilation,
                          values.row(super_.batch, first[0], first[1], first[2], super_.head_kv),
                          values.strides.layout[2] * dilation, count};
    // The rows that are packed after these: hardware sees no pattern from one line of tokens to the next.
    if (more || keys.shape.layout[1] > 1) {
      const int64_t dilation2 = axes_[1].dilation;
      Prefetch(rows.key + (more ? count * rows.key_step : dilation2 * keys.strides.layout[1]), rows.key_step,
               problem_.head_dim, count);
      Prefetch(rows.value + (more ? count * rows.value_step : dilation2 * values.strides.layout[1]), rows.value_step,
               problem_.head_dim_v, count);
    }
    static_cast<Derived*>(this)->PackRows(rows);
  }

  template <class T>
  static void Prefetch(const T* row, int64_t step, int64_t dim, int64_t count) {
    constexpr int64_t kLine = static_cast<int64_t>(kAlignment / sizeof(T));
    for (int64_t n = 0; n < count; ++n, row += step) {
      for (int64_t c = 0; c < dim; c += kLine) __builtin_prefetch(row + c, 0, 2);
    }
  }

  /// All micro tiles visit the block; it is empty afterwards.
  void HWY_ATTR Flush() {
    for (int64_t i = 0; i < placed_; ++i) {
      const KeyList list = ListKeys(lanes_[i]);
      if (list.count > 0) static_cast<Derived*>(this)->Visit(i, list);
    }
    static_cast<Derived*>(this)->BlockVisited();
    used_ = 0;
    segments_ = 0;
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
      const uint32_t row = lanes.attending(0, segment.x1) & lanes.attending(1, segment.x2);
      const geometry::Range x3 = geometry::intersect(segment.x3, lanes.keys(2));
      if (row == 0 || x3.empty()) continue;
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

  Segment segment_[kMaxSegments];
  int64_t segments_ = 0;
  int64_t used_ = 0;
};

}  // namespace nalab::fused::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // NALAB_CORE_KERNELS_FUSED_WALK_INL_H_
