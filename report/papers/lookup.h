// Finding the rows that a published figure is compared with. Shared by the modules of the published tables.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/device.h"
#include "report/figures.h"
#include "report/section.h"
#include "report/table.h"
#include "store/schema.h"

namespace nalab::report {

/// Names of the configurations that say that they reproduce a published table.
std::set<std::string> configs_of(const store::Results& results, const std::string& table);

/// A problem as publications give it. Batch 1, no extra tokens, no bias, no causal axis; any number of heads.
struct Case {
  std::vector<int64_t> layout, window, stride;
  std::vector<int64_t> dilation = {};  ///< empty: none
  int64_t head_dim = 128;

  bool is_of(const store::Row& row) const;
  bool operator==(const Case&) const = default;
};

/// What was measured of a case: fused, and self attention of the same tensors. Both, or a sentence on why not.
struct Measured {
  const store::Row* fused = nullptr;
  const store::Row* dense = nullptr;
  std::string why_not;  ///< empty if both have times

  explicit operator bool() const { return why_not.empty(); }
  // What follows requires both.
  double seconds() const;        ///< of fused
  double dense_seconds() const;  ///< of self attention
  double speedup() const { return dense_seconds() / seconds(); }
  /// Why the speedup is not reliable; empty if it is.
  std::string few_samples() const { return report::few_samples(*fused, *dense); }
  /// With the time that each of the two spends on packing subtracted; none if it was not timed.
  std::optional<double> speedup_without_packing() const;
  /// The bound by the tiles that the kernels really use: what they execute.
  double simulated() const;
  /// The FLOP-wise bound.
  double flop_wise() const;
};

/// The variants that tables compare on a device.
struct Subject {
  Device device;
  const char* fused;
  const char* dense;  ///< self attention
};
inline constexpr Subject kSubjects[] = {{Device::cpu, "fused", "dense"}, {Device::cuda, "hopper", "hopper_dense"}};

/// Where the measurements of a published table are looked up: the forward rows of one device.
class Lookup {
 public:
  /// `table`: configurations that say that they reproduce it are preferred.
  Lookup(const store::Results& results, const std::string& table, const Subject& subject);

  const store::Results& results() const { return results_; }
  bool on_gpu() const { return subject_.device != Device::cpu; }
  std::string dense() const { return subject_.dense; }
  /// Whether a preferred configuration asked for a row.
  bool is_preferred(const store::Row& row) const { return configs_.contains(row.config); }
  /// Those of f32, bf16 and f16 in which the preferred configurations have rows of the fused variant.
  std::vector<std::string> types() const;

  /// The rows of a case in a type. If there are several, those of the preferred configurations, measured or not: no
  /// other configuration's time takes the place of a failed row of theirs. Among these the measured ones, then those
  /// with a reliable speedup, then those with the most heads.
  Measured find(const Case& wanted, const std::string& type) const;

  std::string named(const std::string& name) const { return name_on(subject_.device, name); }
  std::string titled(const std::string& title) const { return title_on(subject_.device, title); }

 private:
  const store::Row* find_dense(const store::Row& row) const;

  const store::Results& results_;
  const Subject& subject_;
  std::set<std::string> configs_;
};

/// Lookups of a table on each device that results have rows of.
std::vector<Lookup> lookups(const store::Results& results, const std::string& table);

/// The machine's caption of the rows used, or a sentence that there are none.
std::vector<std::string> caption_of(const store::Results& results, const std::vector<const store::Row*>& rows);

/// That of a plot, which says how many of the speedups shown are not reliable.
std::vector<std::string> plot_caption_of(const store::Results& results, const std::vector<Measured>& shown);

/// "2.35x"
std::string speedup_text(double speedup);

/// A time in milliseconds; seconds in the records.
Value milliseconds_value(double seconds);

/// A speedup for people and programs, with a note if it is not reliable.
Value speedup_value(double speedup, const std::string& note = {});

/// A column's value of rows that have a measurement `ours`: n/a with the reason if it is not there.
template <class F>
auto if_measured(F value) {
  return [value](const auto& row) { return row.ours ? value(row) : absent(row.ours.why_not); };
}

}  // namespace nalab::report
