// The one comparison of results with a reference, and where its bounds come from.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/tensor/element.h"

namespace nalab {

/// Bounds on two relative errors of a tensor; both must hold.
struct Tolerance {
  double frobenius = 0;  ///< norm(x - reference) / norm(reference)
  double max_abs = 0;    ///< max |x - reference| / max |reference|
};

/// What kind of tensor is compared: gradients pass through one more product than out and lse.
enum class TensorKind : uint8_t { output, gradient };

/// Bounds of the contract for scores of ordinary size, up to 30. Beyond that, the rounding of a score, and with it the
/// relative error of its weight, grows with |score|: so do the bounds.
Tolerance tolerance(ElementType type, TensorKind kind, double max_abs_score = 0.0);

/// Outcome of a comparison; errors are 0 for an empty tensor.
struct Comparison {
  bool ok = true;
  double frobenius = 0;
  double max_abs = 0;
  Tolerance bound;
  int64_t worst_index = -1;  ///< flat index of the greatest difference, or of the first mismatch of non-finite values
  double worst_value = 0;
  double worst_reference = 0;

  /// "frobenius 1.2e-03 (bound 2.0e-06), max 3.1e-03 (bound 2.0e-05); worst at 17: 0.51 for 0.52"
  std::string to_string() const;
};

/// Compares in double over the whole tensor. NaN matches NaN and an infinity the same infinity; norms run over the
/// finite elements. If max |reference| <= 1e-12 the absolute difference must be at most 1e-6 * value_scale instead,
/// with value_scale = max |v| for out (and max |dv| for gradients).
Comparison compare(std::span<const float> values, std::span<const double> reference, Tolerance bound,
                   double value_scale);
Comparison compare(std::span<const double> values, std::span<const double> reference, Tolerance bound,
                   double value_scale);

}  // namespace nalab
