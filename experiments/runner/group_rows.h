// The rows of a group while it runs, those of attention and those of models alike: which are still to be done, and what
// ends them all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "experiments/plan/plan.h"
#include "experiments/runner/host.h"
#include "experiments/runner/sampler.h"
#include "store/schema.h"

namespace nalab::runner {

inline store::TimedRow& timed_row(store::FinishedRow& finished) { return finished.row; }
inline store::TimedRow& timed_row(store::ModelRow& row) { return row; }

/// Rows that are to run and have not failed.
template <class R>
std::vector<std::size_t> still_good(std::vector<R>& rows) {
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (timed_row(rows[i]).status == kDone) indices.push_back(i);
  }
  return indices;
}

template <class R>
void refuse_all(std::vector<R>& rows, const std::string& reason) {
  for (const std::size_t i : still_good(rows)) end(timed_row(rows[i]), kRefused, reason);
}

/// The plan held the rows against the limits of the machine; others may use it too. `held`: what they need that is
/// there already.
template <class Planned, class R>
void refuse_what_does_not_fit(const std::vector<Planned>& planned, std::vector<R>& rows, Host& host, int64_t held = 0) {
  const int64_t free = host.free_memory_bytes() + held;
  for (const std::size_t i : still_good(rows)) {
    const auto reason = plan::lacks_memory(planned[i], free, "the free memory is");
    if (reason) end(timed_row(rows[i]), kRefused, *reason);
  }
}

}  // namespace nalab::runner
