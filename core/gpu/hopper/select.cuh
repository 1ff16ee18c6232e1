// Which kernels are compiled for an element type and a padded head dim, and which one a tile shape wants.
#pragma once

#include "core/gpu/hopper/forward.cuh"
#include "core/gpu/hopper/kernels.h"

namespace nalab::gpu::hopper {

template <class Element, int kDim, int kKeys, MaskMode kMask>
void select(const TileShape& shape, Kernel& found) {
  if constexpr (kKeys <= most_keys(kDim, kMask)) {
    if (shape.keys != kKeys || shape.mask != kMask || shape.stages > kMaxStages) return;
    found.function = reinterpret_cast<const void*>(&forward<Element, kDim, kKeys, kMask>);
    found.shared_bytes = SharedLayout<kDim, kKeys>::bytes(shape.stages, shape.bias_slots);
  }
}

template <class Element, int kDim, MaskMode kMask, int... kKeys>
void select_keys(const TileShape& shape, Kernel& found) {
  (select<Element, kDim, kKeys, kMask>(shape, found), ...);
}

template <class Element, int kDim>
Kernel select_kernel(const TileShape& shape) {
  Kernel found;
  select_keys<Element, kDim, MaskMode::none, 112, 128, 144, 160, 176>(shape, found);
  select_keys<Element, kDim, MaskMode::one_hot, 112, 128, 144, 160, 176>(shape, found);
  select_keys<Element, kDim, MaskMode::row_ranges, 112, 128, 144, 160, 176>(shape, found);
  return found;
}

}  // namespace nalab::gpu::hopper
