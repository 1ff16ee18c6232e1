// How calls are made and timed, whatever they compute: what threw, lacked memory or has no time ends its row.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/config/config.h"
#include "experiments/runner/clock.h"
#include "experiments/runner/host.h"
#include "store/schema.h"

namespace nalab::runner {

inline constexpr const char* kDone = "done";
inline constexpr const char* kFailed = "failed";
inline constexpr const char* kRefused = "refused";

/// Ends a group that the host asked to stop.
struct Stopped {};

/// Gives a row its final status, and takes away what it may not have then.
void end(store::TimedRow& row, const char* status, const std::string& reason);

/// What was seen of the machine, as a row stores it.
void note(const Observation& seen, store::TimedRow& row);

/// Calls and times rows that are still to be done.
class Sampler {
 public:
  using Call = std::function<void()>;

  Sampler(Clock& clock, Host& host, const config::Timing& timing) : clock_(clock), host_(host), timing_(timing) {}

  /// Makes a call. Returns false if it threw; the row then has its final status. Throws Stopped instead of calling.
  bool call(store::TimedRow& row, const Call& call);

  /// Takes a sample of a call. A time that is not positive is none: it is taken again, and the row is refused if that
  /// does not help. Returns false if the row has its final status. `measured`: where the call leaves its time, if it
  /// measures it itself, as one on another device does.
  bool sample(store::TimedRow& row, std::vector<double>& samples, const Call& call, const double* measured = nullptr);

  /// One sample of each row in turn, and back again, until each has enough: changes on the machine then affect all rows
  /// alike.
  struct Timed {
    store::TimedRow* row;
    Call call;
    const double* measured = nullptr;
  };
  void time(std::vector<Timed> rows);

  const config::Timing& timing() const { return timing_; }

 private:
  Clock& clock_;
  Host& host_;
  const config::Timing& timing_;
};

}  // namespace nalab::runner
