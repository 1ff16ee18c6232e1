#include "store/doubts.h"

#include <algorithm>
#include <utility>

#include "store/samples.h"

namespace nalab::store {

namespace {

constexpr double kTakenShare = 0.02;
constexpr double kBusyShare = 0.10;
constexpr double kPeakShare = 0.85;
constexpr double kMedianError = 0.05;

/// What files of earlier builds do not hold is 0 and gives no doubt.
bool is_crowded(const Environment& e, const TimedRow& row) {
  const auto threads = static_cast<double>(row.threads);
  return (e.hardware_threads > 0 && row.threads > e.hardware_threads) || (e.cpu_quota > 0 && threads > e.cpu_quota);
}

bool is_throttled(const Environment&, const TimedRow& row) {
  return row.cpus_throttled > kTakenShare * static_cast<double>(row.threads);
}

bool is_stolen_from(const Environment&, const TimedRow& row) {
  return row.cpus_stolen > kTakenShare * static_cast<double>(row.threads);
}

bool has_rivals(const Environment& e, const TimedRow& row) {
  const auto idle = static_cast<double>(std::max<int64_t>(e.hardware_threads - row.threads, 0));
  return row.cpus_others > idle + kBusyShare * static_cast<double>(row.threads);
}

bool is_slow(const Environment& e, const TimedRow& row) {
  const Peak* peak = find_peak(e, "f32_fma");
  if (peak == nullptr || row.peak_after == 0 || row.isa != e.isa || row.threads != e.threads) return false;
  return std::min(row.peak_before, row.peak_after) < kPeakShare * peak->all_threads;
}

bool is_noisy(const Environment&, const TimedRow& row) {
  const bool reached_limit = row.stopped_by == "count" || row.stopped_by == "time";
  return reached_limit && row.samples.size() > 1 && median_error(row.samples) > kMedianError;
}

}  // namespace

std::vector<Doubt> doubts(const Environment& environment, const std::vector<const TimedRow*>& rows) {
  struct Rule {
    bool (*holds)(const Environment&, const TimedRow&);
    const char* reason;
    bool of_cpus = true;  ///< which do nothing while a GPU computes
  };
  constexpr Rule kRules[] = {{is_crowded, "there were more threads than CPUs for them"},
                             {is_throttled, "a container's quota held the process back"},
                             {is_stolen_from, "the hypervisor gave CPUs to other machines"},
                             {has_rivals, "other programs ran on the same CPUs"},
                             {is_slow, "the CPUs were slower than when their peak was measured"},
                             {is_noisy, "the samples scatter: their median is not known to 5 %", false}};
  std::vector<Doubt> found;
  for (const auto& [holds, reason, of_cpus] : kRules) {
    Doubt doubt{reason, {}};
    for (const TimedRow* row : rows) {
      if (row->samples.empty() || (of_cpus && row->on_gpu())) continue;
      if (holds(environment, *row)) doubt.rows.push_back(row);
    }
    if (!doubt.rows.empty()) found.push_back(std::move(doubt));
  }
  return found;
}

std::string sentence(const Doubt& doubt, std::size_t times, std::string (*name)(const TimedRow&)) {
  constexpr std::size_t kNamed = 3;
  const std::size_t count = doubt.rows.size();
  std::string names;
  for (std::size_t i = 0; i < std::min(count, kNamed); ++i) names += (i == 0 ? "" : ", ") + name(*doubt.rows[i]);
  if (count > kNamed) names += " and " + std::to_string(count - kNamed) + " more";
  return std::to_string(count) + " of " + std::to_string(times) + (times == 1 ? " time" : " times") +
         (count == 1 ? " is" : " are") + " doubtful: " + doubt.reason + " (" + names + ")";
}

}  // namespace nalab::store
