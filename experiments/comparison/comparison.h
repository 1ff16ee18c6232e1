// Two results files, row by row.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/comparison/statistics.h"
#include "store/schema.h"

namespace nalab::comparison {

/// What is to be said of a row of B beside the row of A with the same id.
enum class RatioVerdict {
  faster,      ///< the whole interval lies below 1
  slower,      ///< the whole interval lies above 1
  open,        ///< the interval holds 1
  too_few,     ///< there is no interval: too few samples
  only_in_a,   ///< the other file lacks the row
  only_in_b,   ///< likewise
  not_timed,   ///< refused in either, or failed in A
  now_failed,  ///< failed in B, but not in A
};

/// "faster", "slower", "no difference told", "too few samples", "only in A", ...
const char* name(RatioVerdict verdict);

struct Pair {
  const store::Row* a = nullptr;  ///< null where A lacks the row
  const store::Row* b = nullptr;
  RatioVerdict verdict = RatioVerdict::open;
  std::optional<Ratio> ratio;  ///< of the times, B over A; where both are timed
  std::string reason;          ///< why it is not timed; may be empty

  const store::Row& row() const { return b != nullptr ? *b : *a; }
  /// Of the ratio; null where there is none.
  const Interval* interval() const { return ratio && ratio->interval ? &*ratio->interval : nullptr; }
};

struct Summary {
  int64_t compared = 0;  ///< pairs with a ratio
  double geometric_mean = 1;
  std::vector<int64_t> counts;  ///< by verdict
};

/// The rows of A in their order, then those that are only in B. What is returned points into a and b.
/// Throws Error where no row is in both.
std::vector<Pair> compare(const store::Results& a, const store::Results& b);

Summary summarize(const std::vector<Pair>& pairs);

/// Machine and build, where they differ: a sentence each.
std::vector<std::string> warnings(const store::Results& a, const store::Results& b);

/// Whether a row has become slower by more than some percent, with the whole interval, or its result wrong.
bool fails(const Pair& pair, double percent);

}  // namespace nalab::comparison
