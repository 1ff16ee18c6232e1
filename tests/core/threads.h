// Threads in tests: workers that many tests share, and whether they work at the same time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <thread>

#include "core/parallel.h"

namespace nalab::test {

/// Workers with that many threads, started once. From one host thread at a time.
inline Workers& workers_of(int threads) {
  static std::map<int, Workers> all;
  return all.try_emplace(threads, threads).first->second;
}

/// Whether so many tasks are at work at a time: each waits for all others, which with fewer threads would be in vain.
inline bool tasks_meet(Workers& workers, int count) {
  std::atomic<int> started = 0;
  std::atomic<int> met = 0;
  workers.for_each(count, [&](int64_t, int) {
    ++started;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (started < count && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    met += started == count;
  });
  return met == count;
}

}  // namespace nalab::test
