// What a row's raw samples say: the figures that tables show. Shared by the table modules.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "store/schema.h"

namespace nalab::report {

/// Whether a row has times.
bool is_measured(const store::TimedRow& row);

/// Whether a row was computed on a GPU. Without one, rows for it were refused, and stand among the others.
bool ran_on_gpu(const store::Environment& environment, const store::TimedRow& row);

/// Why a row has none: its own reason or status, in a sentence that names the variant.
std::string why_not_measured(const store::TimedRow& row);

/// A time counts as reliable from so many samples on.
inline constexpr std::size_t kFewestSamples = 3;

/// Why the ratio of the times of two measured rows is not reliable: names those that have fewer than kFewestSamples
/// samples. Empty if neither has.
std::string few_samples(const store::TimedRow& row, const store::TimedRow& baseline);

/// "2 of 7 speedups have fewer than 3 samples of one of their times"; empty if none has.
std::string few_samples_of(std::size_t few, std::size_t all);

/// The measured peak that a row's rate is compared with, FLOP/s: that of its arithmetic. Where its two passes have
/// different ones, the rate of a row that does the useful FLOPs of each pass at that pass's peak. 0 if a peak was not
/// measured for the row's GPU, or ISA and threads.
double peak_of(const store::Environment& environment, const store::Row& row);

/// Why that is not known, in a sentence.
std::string why_no_peak(const store::Row& row);

/// Figures of a measured row.
struct Figures {
  double median = 0;                 ///< seconds
  std::optional<double> spread;      ///< interquartile range / median; none for a single sample
  double rate = 0;                   ///< useful FLOP/s
  std::optional<double> peak_share;  ///< rate / peak; none if the peak is not known
};
Figures figures_of(const store::Environment& environment, const store::Row& row);

/// The rows of results by problem, variant and pass. If several configurations asked for the same, the row of the
/// preferred one is found, otherwise the first.
class RowIndex {
 public:
  explicit RowIndex(const std::vector<store::Row>& rows, const std::string& preferred_config = {});

  /// Null if there is no such row.
  const store::Row* find(const std::string& problem, const std::string& variant, const std::string& pass) const;

  /// A variant's row for the problem of another row. A variant that computes self attention only is found at the
  /// problem's counterpart with self attention. Null if there is none.
  const store::Row* counterpart(const store::Row& row, const std::string& variant) const;

  /// Whether the variant was asked for self attention alone, so that its rows serve other problems too.
  bool only_self_attention(const std::string& variant) const;

 private:
  std::map<std::tuple<std::string, std::string, std::string>, const store::Row*> rows_;
  std::map<std::string, bool> only_self_attention_;
};

}  // namespace nalab::report
