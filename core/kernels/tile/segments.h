// Runs of keys in the order in which a super tile walks over them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/geometry/tiles.h"
#include "core/geometry/token.h"

namespace nalab::tile {

/// Neighbouring keys along the last axis of the layout (positions in a dilation group), or neighbouring extra tokens,
/// in a block of packed keys.
struct Segment {
  int64_t x1 = 0, x2 = 0;  ///< x1 is negative for extra tokens
  geometry::Range x3;      ///< positions, or the numbers of the extra tokens
  int64_t first = 0;       ///< row of the block that holds x3.begin

  bool is_extra() const { return x1 < 0; }
};

/// Stands before a key: runs along the last axis of a box of keys, in row-major order, then the extra tokens.
class KeyCursor {
 public:
  KeyCursor() = default;
  KeyCursor(const geometry::Box& keys, int64_t extra_tokens) : keys_(keys), extra_(extra_tokens) {
    at_ = {keys[0].begin, keys[1].begin, keys[2].begin};
    if (geometry::size(keys) == 0) at_ = {keys[0].end, 0, 0};
  }

  bool done() const { return in_extra() && at_[2] == extra_; }

  /// The first of the keys that come next. Requires that the walk is not done.
  Segment next() const { return KeyCursor(*this).take(1); }

  /// The next keys of a run, at most `room`. Requires that the walk is not done.
  Segment take(int64_t room) {
    const int64_t end = in_extra() ? extra_ : keys_[2].end;
    const geometry::Range x3{at_[2], std::min(end, at_[2] + room)};
    const Segment segment = in_extra() ? Segment{-1, -1, x3} : Segment{at_[0], at_[1], x3};
    move_to_end_of(segment);
    return segment;
  }

  /// The cursor that stands after the keys of a segment of this walk.
  KeyCursor after(const Segment& segment) const {
    KeyCursor cursor = *this;
    cursor.at_ = segment.is_extra() ? geometry::Token{keys_[0].end, 0, 0}
                                    : geometry::Token{segment.x1, segment.x2, segment.x3.begin};
    cursor.move_to_end_of(segment);
    return cursor;
  }

 private:
  bool in_extra() const { return at_[0] == keys_[0].end; }
  void move_to_end_of(const Segment& segment) {
    at_[2] = segment.x3.end;
    if (in_extra() || at_[2] < keys_[2].end) return;
    at_[2] = keys_[2].begin;
    if (++at_[1] < keys_[1].end) return;
    at_[1] = keys_[1].begin;
    if (++at_[0] == keys_[0].end) at_[2] = 0;
  }

  geometry::Box keys_;
  int64_t extra_ = 0;
  geometry::Token at_{};
};

/// Keys that are packed at a time.
class KeyBlock {
 public:
  /// Takes the next keys of a walk in place of those before, none after the last: at most `keys` rows. Segments begin
  /// with multiples of `alignment`.
  void take(KeyCursor& cursor, int64_t keys, int64_t alignment) {
    used_ = 0;
    segments_ = 0;
    while (used_ < keys && segments_ < kMaxSegments && !cursor.done()) {
      Segment& segment = segment_[segments_++];
      segment = cursor.take(keys - used_);
      segment.first = used_;
      used_ = geometry::ceil_div(used_ + segment.x3.size(), alignment) * alignment;
    }
  }

  /// Rows, unused ones between segments included.
  int64_t used() const { return used_; }
  std::span<const Segment> segments() const { return {segment_, static_cast<std::size_t>(segments_)}; }

 private:
  static constexpr int64_t kMaxSegments = 256;

  Segment segment_[kMaxSegments];
  int64_t segments_ = 0;
  int64_t used_ = 0;
};

/// Calls visit(group) for the groups of `size` rows that hold one of a range of rows, from group `next` on. Returns the
/// group after the last one that is through.
template <class Visit>
int64_t for_each_group(geometry::Range rows, int64_t size, int64_t next, const Visit& visit) {
  for (next = std::max(next, rows.begin / size); next * size < rows.end; ++next) visit(next);
  return next;
}

}  // namespace nalab::tile
