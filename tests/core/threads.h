// Threads in tests: more of them than the hardware may have, and whether they work at the same time.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "core/parallel.h"

namespace nalab::test {

/// Lets a test use that many threads while it lives, whatever the hardware has.
class EnoughThreads {
 public:
  explicit EnoughThreads(int threads) : limit_(std::max(threads, hardware_threads())) {}

 private:
  ProcessThreadLimit limit_;
};

/// Whether two threads work at a time: the first task waits for the second, which with a single thread would be in
/// vain.
inline bool two_tasks_meet(Workers& workers) {
  std::atomic<bool> second_started = false;
  std::atomic<bool> met = false;
  workers.for_each(2, [&](int64_t task, int) {
    if (task == 1) second_started = true;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (task == 0 && !second_started && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    if (task == 0) met = second_started.load();
  });
  return met;
}

}  // namespace nalab::test
