// In which order the backward pass of fused sums dk, dv and drpb.
#pragma once

#include <cstdint>

#include "core/kernels/tile/super_tiles.h"

namespace nalab::fused {

/// The order in which the super tiles add to a key, and to drpb. It depends on the problem and the tiling, never on the
/// thread count.
class BackwardOrder {
 public:
  BackwardOrder(const tile::SuperTiles& supers, const Tiling& tiling) : of_group_(supers.of_group()) {
    const tile::SuperTile typical = supers.at(of_group_ / 2);
    const int64_t keys = geometry::size(geometry::keys_of_any(supers.mask(typical.group), typical.tokens));
    if (keys < kBlocks * tiling.block_keys) spaces_ = supers.count() / of_group_;
  }

  /// The number of the super tile that comes i-th.
  int64_t operator()(int64_t i) const { return spaces_ == 0 ? i : i % spaces_ * of_group_ + i / spaces_; }

 private:
  /// Tasks of this many blocks follow each other over the same keys, which they find in the third-level cache. Shorter
  /// ones would wait for each other: those of other heads, batch entries and dilation groups come between them.
  static constexpr int64_t kBlocks = 8;

  int64_t of_group_;
  int64_t spaces_ = 0;
};

}  // namespace nalab::fused
