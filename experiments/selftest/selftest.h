// Random problems in every variant against the oracle, for as long as is asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "experiments/selftest/trial.h"

namespace nalab::selftest {

struct Request {
  std::optional<int64_t> count;   ///< problems
  std::optional<double> seconds;  ///< none is begun after them
  int64_t first = 0;              ///< number of the first problem
  uint64_t seed = 0;
  std::vector<int> threads;  ///< each call is made with all of these numbers; empty: as drawn
};

struct Failure {
  Trial trial;         ///< shrunk
  std::string fault;   ///< of the shrunk trial
  std::string drawn;   ///< the trial that was drawn, as text
  int64_t number = 0;  ///< of its problem
};

struct Tally {
  int64_t problems = 0;
  std::map<std::string, int64_t> trials;  ///< by variant
  double worst = 0;                       ///< the greatest error as a part of its bound
  std::string worst_trial;
  double seconds = 0;
  std::optional<Failure> failure;
};

/// Ends with the first failure. `progress` is called after every problem, `begins` before every trial.
Tally run(const Request& request, const std::function<void(const Tally&)>& progress,
          const std::function<void(const Trial&)>& begins);

/// What is wrong with one trial; empty if nothing is.
std::string fault_of(const Trial& trial);

}  // namespace nalab::selftest
