#include "core/compare.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace nalab {

namespace {

/// Up to this |score| the contract's bounds hold unchanged.
constexpr double kOrdinaryScore = 30.0;
/// Below this a reference tensor counts as zero, and its relative errors mean nothing.
constexpr double kZero = 1e-12;

template <class T>
Comparison compare_values(std::span<const T> values, std::span<const double> reference, Tolerance bound,
                          double value_scale) {
  Comparison c;
  c.bound = bound;
  double sum_difference = 0;
  double sum_reference = 0;
  double max_reference = 0;
  double max_difference = -1;
  bool mismatch = values.size() != reference.size();
  const std::size_t n = std::min(values.size(), reference.size());
  for (std::size_t i = 0; i < n; ++i) {
    const double x = static_cast<double>(values[i]);
    const double r = reference[i];
    if (!std::isfinite(x) || !std::isfinite(r)) {
      const bool same = (std::isnan(x) && std::isnan(r)) || x == r;
      if (!same && !mismatch) {
        mismatch = true;
        c.worst_index = static_cast<int64_t>(i);
        c.worst_value = x;
        c.worst_reference = r;
      }
      continue;
    }
    const double difference = std::abs(x - r);
    sum_difference += difference * difference;
    sum_reference += r * r;
    max_reference = std::max(max_reference, std::abs(r));
    if (difference > max_difference) {
      max_difference = difference;
      if (!mismatch) {
        c.worst_index = static_cast<int64_t>(i);
        c.worst_value = x;
        c.worst_reference = r;
      }
    }
  }
  max_difference = std::max(max_difference, 0.0);
  if (max_reference <= kZero) {
    // Relative to what the tensor is made of, since the tensor itself is zero.
    c.bound = {1e-6, 1e-6};
    const double relative = max_difference == 0 ? 0.0 : max_difference / std::max(value_scale, 1e-300);
    c.frobenius = relative;
    c.max_abs = relative;
  } else {
    c.frobenius = std::sqrt(sum_difference / sum_reference);
    c.max_abs = max_difference / max_reference;
  }
  c.ok = !mismatch && c.frobenius <= c.bound.frobenius && c.max_abs <= c.bound.max_abs;
  return c;
}

}  // namespace

Tolerance tolerance(ElementType type, TensorKind kind, double max_abs_score) {
  const bool gradient = kind == TensorKind::gradient;
  Tolerance t{gradient ? 1e-5 : 2e-6, 2e-5};
  if (type == ElementType::f16) t = {gradient ? 4e-3 : 2e-3, 1e-2};
  if (type == ElementType::bf16) t = {gradient ? 1.6e-2 : 8e-3, 4e-2};
  const double factor = std::max(1.0, max_abs_score / kOrdinaryScore);
  return {t.frobenius * factor, t.max_abs * factor};
}

std::string Comparison::to_string() const {
  char text[256];
  std::snprintf(text, sizeof text, "frobenius %.2e (bound %.1e), max %.2e (bound %.1e); worst at %lld: %.9g for %.9g",
                frobenius, bound.frobenius, max_abs, bound.max_abs, static_cast<long long>(worst_index), worst_value,
                worst_reference);
  return text;
}

Comparison compare(std::span<const float> values, std::span<const double> reference, Tolerance bound,
                   double value_scale) {
  return compare_values(values, reference, bound, value_scale);
}

Comparison compare(std::span<const double> values, std::span<const double> reference, Tolerance bound,
                   double value_scale) {
  return compare_values(values, reference, bound, value_scale);
}

}  // namespace nalab
