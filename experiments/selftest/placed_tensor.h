// A tensor that lies in memory as a trial says: inside a larger one, its extents in any order.
#pragma once

#include <cstddef>
#include <vector>

#include "core/tensor/tensor.h"
#include "experiments/selftest/trial.h"

namespace nalab::selftest {

/// Everything around the elements is bytes 0xFF, which are NaN in every type: reading there shows in the results, and
/// writing there is seen afterwards. The elements start as such bytes too.
class PlacedTensor {
 public:
  PlacedTensor(ElementType type, const TokenShape& shape, Placement placement);

  TensorView view() { return {memory_.data() + first_ * size_of(type_), type_, shape_, strides_}; }
  /// Copies the elements of a contiguous tensor of the same type and shape.
  void set(const Tensor& source);
  /// The elements, row-major.
  std::vector<float> values();
  /// Whether what lies around the elements is as it was. Overwrites the elements.
  bool surroundings_intact();

 private:
  ElementType type_;
  TokenShape shape_;
  TokenStrides strides_;
  int64_t first_ = 0;
  AlignedBuffer<std::byte> memory_;
};

}  // namespace nalab::selftest
