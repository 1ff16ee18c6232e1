#include "experiments/selftest/selftest.h"

#include <chrono>

#include "experiments/selftest/check.h"
#include "experiments/selftest/draw.h"
#include "experiments/selftest/shrink.h"

namespace nalab::selftest {

namespace {

/// A shrunk trial is worth less than the time that shrinking may take.
constexpr double kShrinkSeconds = 60;

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Failure shrunk(const Trial& drawn, int64_t number, Checker& checker) {
  const Stopwatch watch;
  Trial trial = shrink(
      drawn, [&](const Trial& t) { return !checker.check(t).fault.empty(); },
      [&] { return watch.seconds() < kShrinkSeconds; });
  std::string fault = checker.check(trial).fault;
  return {std::move(trial), std::move(fault), to_text(drawn), number};
}

}  // namespace

Tally run(const Request& request, const std::function<void(const Tally&)>& progress,
          const std::function<void(const Trial&)>& begins) {
  const Stopwatch watch;
  Checker checker;
  Tally tally;
  while (!(request.count && tally.problems >= *request.count) &&
         !(request.seconds && watch.seconds() >= *request.seconds)) {
    const int64_t number = request.first + tally.problems;
    for (Trial& trial : draw(request.seed, static_cast<uint64_t>(number))) {
      if (!request.threads.empty()) trial.threads = request.threads;
      begins(trial);
      const Agreement agreement = checker.check(trial);
      if (!agreement.fault.empty()) {
        tally.failure = shrunk(trial, number, checker);
        tally.seconds = watch.seconds();
        return tally;
      }
      ++tally.trials[trial.variant];
      if (agreement.worst > tally.worst) {
        tally.worst = agreement.worst;
        tally.worst_trial = to_text(trial);
      }
    }
    ++tally.problems;
    tally.seconds = watch.seconds();
    progress(tally);
  }
  return tally;
}

std::string fault_of(const Trial& trial) {
  Checker checker;
  return checker.check(trial).fault;
}

}  // namespace nalab::selftest
