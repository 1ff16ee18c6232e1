// Tasks whose effects on shared memory must come in one order, whatever the number of threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace nalab {

/// Runs tasks on all workers, and lets a task wait until earlier ones are past some point: so sums over tasks get the
/// same bits for every number of threads, without private copies and without atomics on floats.
///
/// Tasks are claimed in the order of their numbers, and a claimed task runs until it ends. So whenever a task waits,
/// each earlier one has ended or is running on another worker. The earliest of those that run waits for nobody: hence
/// some task always goes on, and there is no deadlock, whatever the tasks wait for and however many threads there are.
class OrderedTasks {
 public:
  /// Positions measure how far a task is. What they mean is the caller's choice; they only grow.
  static constexpr int64_t kStart = std::numeric_limits<int64_t>::min();  ///< of a task that has just been claimed
  static constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();    ///< of a task that has ended

  /// Called after every announcement of a position, unless null: tests pause there, so that tasks whose wait it ends go
  /// on first, and a task that announces a place before it is done with it is overtaken for certain.
  static inline std::atomic<void (*)()> after_pass = nullptr;

  /// A running task.
  class Task {
   public:
    int64_t number() const { return number_; }
    int worker() const { return worker_; }

    /// Tells later tasks that this one is done with everything before `position`.
    void pass(int64_t position) const { owner_.pass(worker_, position); }

    /// Returns once every earlier task is at required(its number) or beyond; kStart asks nothing of it.
    template <class Required>
    void wait_for_earlier(const Required& required) const {
      owner_.wait([&](const Runner& other) {
        // In this order: a runner announces its new task before it goes back to the start.
        const int64_t position = other.position;
        const int64_t earlier = other.task;
        return earlier >= number_ || position == kEnd || position >= required(earlier);
      });
    }

   private:
    friend OrderedTasks;
    Task(OrderedTasks& owner, int64_t number, int worker) : owner_(owner), number_(number), worker_(worker) {}

    OrderedTasks& owner_;
    int64_t number_;
    int worker_;
  };

  explicit OrderedTasks(Workers& workers) : workers_(workers), runners_(static_cast<std::size_t>(workers.threads())) {}

  /// Calls body(task) once for every number in [0, count). What a task did before pass() is visible to those whose
  /// wait it ends. An exception of the body ends its task, starts no more, and is passed on to the caller.
  template <class Body>
  void for_each(int64_t count, const Body& body) {
    next_ = 0;
    count_ = count;
    workers_.for_each(workers_.threads(), [&](int64_t, int worker) {
      for (int64_t number; (number = claim(worker)) < count;) {
        const EndOfTask end{*this, worker};
        try {
          body(Task(*this, number, worker));
        } catch (...) {
          stop();
          throw;
        }
      }
    });
  }

 private:
  /// What a worker is working on. On a cache line of its own, since its worker writes it often.
  struct alignas(64) Runner {
    std::atomic<int64_t> task = kEnd;
    std::atomic<int64_t> position = kEnd;
  };

  struct EndOfTask {
    OrderedTasks& owner;
    int worker;
    ~EndOfTask() { owner.pass(worker, kEnd); }
  };

  Runner& runner(int worker) { return runners_[static_cast<std::size_t>(worker)]; }

  /// The next task, or one past the last. Under the lock, so that whoever claims a task sees the runners of all earlier
  /// ones.
  int64_t claim(int worker) {
    const std::lock_guard lock(claiming_);
    if (next_ >= count_) return count_;
    runner(worker).task = next_;
    runner(worker).position = kStart;
    return next_++;
  }

  void stop() {
    const std::lock_guard lock(claiming_);
    next_ = count_;
  }

  void pass(int worker, int64_t position) {
    runner(worker).position = position;
    ++news_;
    news_.notify_all();
    if (const auto pause = after_pass.load(std::memory_order_relaxed); pause != nullptr) pause();
  }

  /// Returns once passed(runner) holds for every runner.
  template <class Passed>
  void wait(const Passed& passed) {
    constexpr int kTries = 64;  // putting a thread to sleep and waking it costs more than a short task
    for (const Runner& other : runners_) {
      for (int tries = 0;; ++tries) {
        const uint32_t news = news_;
        if (passed(other)) break;
        if (tries < kTries) {
          std::this_thread::yield();
        } else {
          news_.wait(news);
        }
      }
    }
  }

  Workers& workers_;
  std::vector<Runner> runners_;
  std::mutex claiming_;
  int64_t next_ = 0;
  int64_t count_ = 0;
  std::atomic<uint32_t> news_ = 0;  ///< counts calls of pass()
};

/// How far a task is, for those that follow it: where a task knows which earlier ones it has to wait for, this costs
/// less than to look at all workers. The tasks must be claimed in the order of their numbers, and wait for earlier ones
/// alone.
class TaskProgress {
 public:
  static constexpr int32_t kEnd = std::numeric_limits<int32_t>::max();  ///< of a task that has ended

  /// Steps only grow. What the task did before is visible to those whose wait it ends.
  void reach(int32_t step) {
    step_ = step;
    step_.notify_all();
    if (const auto pause = OrderedTasks::after_pass.load(std::memory_order_relaxed); pause != nullptr) pause();
  }

  /// Returns once the task has reached a step.
  void wait_for(int32_t step) const {
    constexpr int kTries = 64;
    for (int tries = 0;; ++tries) {
      const int32_t now = step_;
      if (now >= step) return;
      if (tries < kTries) {
        std::this_thread::yield();
      } else {
        step_.wait(now);
      }
    }
  }

 private:
  alignas(64) std::atomic<int32_t> step_ = 0;
};

}  // namespace nalab
