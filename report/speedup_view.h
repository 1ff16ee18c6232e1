// One configuration's rows, as the generic tables and plots look at them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/device.h"
#include "report/figures.h"
#include "report/modules.h"
#include "report/traits.h"
#include "store/schema.h"

namespace nalab::report {

/// Refers to the results and the index, which must outlive it.
struct SpeedupView {
  const store::Results& results;
  const RowIndex& index;
  std::string config;
  std::string name, title;                       ///< of the section; names and titles of tables and plots begin so
  std::vector<const store::Row*> problems = {};  ///< the first row of each problem, type and pass to show
  std::vector<std::string> variants = {};        ///< those of the problems and their baseline, in the order of the rows
  std::string baseline = {};                     ///< variant; empty if there is none
  std::vector<Trait<store::Row>> traits;         ///< in which the problems differ
  std::string common = {};                       ///< sentence on the traits that they share
};

/// Of results on one device. Has no problems if all rows of the configuration are only baselines of others.
SpeedupView make_view(const store::Results& results, const RowIndex& index, const std::string& config, Device device,
                      const Options& options);

/// A speedup over the baseline.
struct Speedup {
  std::optional<double> value;
  std::string note = {};             ///< why there is none, or why it is not reliable; empty if it is
  std::size_t baseline_samples = 0;  ///< of the time that it is over
};

/// The speedup of a measured row over the baseline's row for the problem.
Speedup speedup(const SpeedupView& view, const store::Row& problem, const store::Row& row);

/// What is shown of a configuration in plots: those that there are enough rows for.
std::vector<Plot> speedup_plots(const SpeedupView& view);

}  // namespace nalab::report
