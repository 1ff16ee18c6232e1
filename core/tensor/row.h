// Rows of tensors, and factors, between float32 and what callers give.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "core/geometry/token.h"
#include "core/tensor/tensor.h"

namespace nalab {

/// Rounds a row of floats to the tensor's element type and stores it.
inline void store_row(const TensorView& tensor, int64_t batch, const geometry::Token& token, int64_t head,
                      const float* values) {
  with_element_type(tensor.type, [&](auto element) {
    using T = decltype(element);
    T* target = tensor.as<T>().row(batch, token[0], token[1], token[2], head);
    for (int64_t c = 0; c < tensor.shape.dim; ++c) target[c] = from_float<T>(values[c]);
  });
}

/// A factor of scores as float32, held within the range of float32: so 0 times it is 0, and other products overflow to
/// infinity by themselves.
inline float factor_as_float(double factor) {
  constexpr double kGreatest = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(factor, -kGreatest, kGreatest));
}

}  // namespace nalab
