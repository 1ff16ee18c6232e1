// Where time comes from: a collaborator, so that tests can fake it.
#pragma once

#include <chrono>

namespace nalab::runner {

class Clock {
 public:
  virtual ~Clock() = default;
  /// Seconds since some moment in the past; never goes back.
  virtual double seconds() = 0;
};

class SteadyClock : public Clock {
 public:
  double seconds() override {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
};

}  // namespace nalab::runner
