// Statistics of a row's samples.
#pragma once

#include <span>

namespace nalab::store {

/// The value below which the fraction p of the samples lies, 0 <= p <= 1, linear between neighbouring samples.
/// Requires at least one sample, like the others.
double quantile(std::span<const double> samples, double p);

/// The middle sample, or the mean of the two in the middle.
double median(std::span<const double> samples);

/// The interquartile range as a fraction of the median: how much samples scatter, whatever single ones do.
double spread(std::span<const double> samples);

/// An estimate of the standard error of the median, as a fraction of it: that of normal samples with the same
/// interquartile range. 1 for a single one: nothing is known of it.
double median_error(std::span<const double> samples);

}  // namespace nalab::store
