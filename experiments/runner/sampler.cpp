#include "experiments/runner/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <new>

#include "experiments/runner/stopping.h"

namespace nalab::runner {

namespace {

/// So often in a row may the clock fail to advance during a call.
constexpr int64_t kLostSamples = 100;

}  // namespace

void end(store::TimedRow& row, const char* status, const std::string& reason) {
  row.status = status;
  row.reason = reason;
  row.samples.clear();
  row.stopped_by.clear();
}

void note(const Observation& seen, store::TimedRow& row) {
  row.cpus_others = seen.cpus_others;
  row.cpus_stolen = seen.cpus_stolen;
  row.cpus_throttled = seen.cpus_throttled;
  row.peak_before = seen.peak_before;
  row.peak_after = seen.peak_after;
}

bool Sampler::call(store::TimedRow& row, const Call& made) {
  if (host_.asked_to_stop()) throw Stopped();
  try {
    made();
    return true;
  } catch (const std::bad_alloc&) {
    end(row, kRefused, "not enough memory");
  } catch (const std::exception& error) {
    end(row, kFailed, error.what());
  }
  return false;
}

bool Sampler::sample(store::TimedRow& row, std::vector<double>& samples, const Call& timed, const double* measured) {
  for (int64_t lost = 0; lost < kLostSamples; ++lost) {
    const double start = clock_.seconds();
    if (!call(row, timed)) return false;
    const double elapsed = measured != nullptr ? *measured : clock_.seconds() - start;
    if (!(elapsed > 0)) continue;
    samples.push_back(elapsed);
    return true;
  }
  end(row, kRefused, fmt::format("the clock did not advance during {} calls", kLostSamples));
  return false;
}

void Sampler::time(std::vector<Timed> rows) {
  while (!rows.empty()) {
    for (const auto& [row, timed, measured] : rows) {
      if (sample(*row, row->samples, timed, measured)) row->stopped_by = stopped_by(row->samples, timing_);
    }
    std::erase_if(rows, [](const Timed& t) { return t.row->status != kDone || !t.row->stopped_by.empty(); });
    std::reverse(rows.begin(), rows.end());
  }
}

}  // namespace nalab::runner
