// Two results files, row by row.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/comparison/statistics.h"
#include "store/schema.h"

namespace nalab::comparison {

/// How a row of B compares with the row of A that has the same id.
enum class RatioVerdict {
  faster,      ///< the whole interval lies below 1
  slower,      ///< the whole interval lies above 1
  open,        ///< the interval holds 1
  too_few,     ///< too few samples for an interval
  only_in_a,   ///< the other file lacks the row
  only_in_b,   ///< likewise
  not_timed,   ///< refused in either, or failed in A
  now_failed,  ///< failed in B, but not in A
};

/// "faster", "slower", "no difference told", "too few samples", "only in A", ...
const char* name(RatioVerdict verdict);

struct Pair {
  const store::TimedRow* a = nullptr;  ///< null if A lacks the row
  const store::TimedRow* b = nullptr;
  RatioVerdict verdict = RatioVerdict::open;
  std::optional<Ratio> ratio;  ///< of the times, B over A; unset unless both are timed
  std::string reason;          ///< why it is not timed; may be empty

  const store::TimedRow& row() const { return b != nullptr ? *b : *a; }
  /// The interval of the ratio; null if absent.
  const Interval* interval() const { return ratio && ratio->interval ? &*ratio->interval : nullptr; }
};

struct Summary {
  int64_t compared = 0;  ///< pairs with a ratio
  double geometric_mean = 1;
  std::vector<int64_t> counts;  ///< by verdict
};

/// The rows of A in their order, models last, then those that are only in B. The pairs point into a and b.
/// Throws Error if no row is in both.
std::vector<Pair> compare(const store::Results& a, const store::Results& b);

Summary summarize(const std::vector<Pair>& pairs);

/// Differences of machine and build, one sentence each.
std::vector<std::string> warnings(const store::Results& a, const store::Results& b);

/// Whether the whole interval of a row is slower by more than `percent`, or its result has become wrong.
bool fails(const Pair& pair, double percent);

}  // namespace nalab::comparison
