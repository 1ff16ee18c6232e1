// Token permutation: the order in which the tokens of a tile are neighbours (Generalized NA, 2504.16922, where it lets
// a kernel see a multi-dimensional tile as a row of tokens). Index math alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "tiles.h"

namespace nalab::geometry {

/// A bijection between the tokens of a layout and their places in a sequence: dilation groups in row-major order; in a
/// group its tiles in row-major order; in a tile its tokens in row-major order. Tiles that a group's end cuts short are
/// compact: nothing is padded.
class TokenPermutation {
 public:
  using Token = std::array<int64_t, kAxes>;

  /// Tokens at consecutive places that lie one dilation apart along the last axis.
  struct Run {
    Token first;        ///< coordinates
    int64_t count = 1;  ///< up to the end of the tile's row
  };

  /// `axes`: only extent and dilation matter. `tile`: its shape in positions of a dilation group, each at least 1 and
  /// possibly larger than the axis.
  constexpr TokenPermutation(const std::array<Axis, kAxes>& axes, const Token& tile) : axes_(axes), tile_(tile) {}

  constexpr const Axis& axis(int i) const { return axes_[i]; }
  constexpr const Token& tile() const { return tile_; }
  constexpr int64_t tokens() const { return axes_[0].extent * axes_[1].extent * axes_[2].extent; }

  /// The place of the token at these coordinates.
  constexpr int64_t place_of(const Token& token) const {
    Box group, tile, self;
    for (int i = 0; i < kAxes; ++i) {
      const int64_t position = token[i] / axes_[i].dilation;
      group[i] = group_range(i, token[i] % axes_[i].dilation);
      tile[i] = tile_range(i, group[i], position);
      self[i] = {position - tile[i].begin, position - tile[i].begin + 1};
    }
    return before(layout(), group) + before(group, tile) + before(tile, self);
  }

 private:
  /// The part of a box that holds its n-th token; part_at(axis, position) gives the part's range along an axis. On
  /// return n counts from the beginning of the part.
  /// Stands above its callers: else Clang 14 does not find it in constant expressions.
  template <class PartAt>
  static constexpr Box find(const Box& box, int64_t& n, const PartAt& part_at) {
    Box part;
    part[0] = part_at(0, n / (box[1].size() * box[2].size()));
    n -= part[0].begin * box[1].size() * box[2].size();
    part[1] = part_at(1, n / (part[0].size() * box[2].size()));
    n -= part[0].size() * part[1].begin * box[2].size();
    part[2] = part_at(2, n / (part[0].size() * part[1].size()));
    n -= part[0].size() * part[1].size() * part[2].begin;
    return part;
  }

 public:
  /// The token at a place, 0 <= place < tokens(), and those that follow it.
  constexpr Run run_at(int64_t place) const {
    const Box group = find(layout(), place, [&](int i, int64_t n) { return group_range(i, group_of(i, n)); });
    const Box tile = find(group, place, [&](int i, int64_t n) { return tile_range(i, group[i], n); });
    const Box self = find(tile, place, [](int, int64_t n) { return Range{n, n + 1}; });
    Run run;
    for (int i = 0; i < kAxes; ++i) {
      run.first[i] = axes_[i].coordinate(group_of(i, group[i].begin), tile[i].begin + self[i].begin);
    }
    run.count = tile[2].size() - self[2].begin;
    return run;
  }

 private:
  constexpr Box layout() const { return {Range{0, axes_[0].extent}, {0, axes_[1].extent}, {0, axes_[2].extent}}; }

  /// Where a dilation group lies along an axis when groups are put one after the other: the first extent mod dilation
  /// groups are one position longer than the others.
  constexpr Range group_range(int i, int64_t group) const {
    const int64_t begin =
        group * (axes_[i].extent / axes_[i].dilation) + std::min(group, axes_[i].extent % axes_[i].dilation);
    return {begin, begin + axes_[i].group_length(group)};
  }
  /// The dilation group whose group_range holds n.
  constexpr int64_t group_of(int i, int64_t n) const {
    const int64_t length = axes_[i].extent / axes_[i].dilation;
    const int64_t longer = axes_[i].extent % axes_[i].dilation;
    return n < longer * (length + 1) ? n / (length + 1) : longer + (n - longer * (length + 1)) / length;
  }
  /// The tile that holds a position of a dilation group.
  constexpr Range tile_range(int i, Range group, int64_t position) const {
    return TileAxis{group.size(), tile_[i]}.range(position / tile_[i]);
  }

  /// Tokens of a box that come before those of a part, when its parts follow each other in row-major order. The part's
  /// ranges count from the beginning of the box.
  static constexpr int64_t before(const Box& box, const Box& part) {
    return part[0].begin * box[1].size() * box[2].size() +
           part[0].size() * (part[1].begin * box[2].size() + part[1].size() * part[2].begin);
  }

  std::array<Axis, kAxes> axes_;
  Token tile_;
};

}  // namespace nalab::geometry
