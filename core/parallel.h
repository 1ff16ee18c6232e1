// Threads: the one header that includes TBB. Kernels say "for each task"; how many threads work is the caller's choice.
#pragma once

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <cstdint>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace nalab {

/// Tells the thread sanitizer what TBB guarantees and it cannot see, since Debian's TBB is not built for it: what a
/// caller did comes before the tasks, and the tasks before what it does next. Does nothing in other builds.
class TaskOrder {
 public:
#ifdef __SANITIZE_THREAD__
  void before_tasks() { __tsan_release(&started_); }
  void task_begins() { __tsan_acquire(&started_); }
  void task_ends() { __tsan_release(&ended_); }
  void after_tasks() { __tsan_acquire(&ended_); }

 private:
  char started_ = 0, ended_ = 0;
#else
  void before_tasks() {}
  void task_begins() {}
  void task_ends() {}
  void after_tasks() {}
#endif
};

/// While it lives, the process may run `threads` threads at a time, whatever the hardware has. TBB has one such
/// limit for the process, all of its users included: so the library never sets it, but executables and tests may.
class ProcessThreadLimit {
 public:
  /// threads >= 1
  explicit ProcessThreadLimit(int threads)
      : limit_(oneapi::tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads)) {}

 private:
  oneapi::tbb::global_control limit_;
};

/// At most a fixed number of threads; several host threads may use them at once. One thread is always the calling one.
class Workers {
 public:
  /// threads >= 1, the calling thread included. More threads than the hardware has need a ProcessThreadLimit.
  explicit Workers(int threads) : arena_(threads) {}

  int threads() const { return arena_.max_concurrency(); }

  /// Calls body(task, worker) once for each task in [0, tasks), in any order, from several threads. worker is in
  /// [0, threads()) and no two calls with the same worker overlap: it selects private memory. So that results do not
  /// depend on the thread count, a task must write only what no other task reads or writes.
  /// An exception of the body is passed on to the caller.
  template <class Body>
  void for_each(int64_t tasks, const Body& body) {
    // TBB makes room for a second host thread in an arena of one, with an index of its own.
    if (threads() == 1) {
      for (int64_t task = 0; task < tasks; ++task) body(task, 0);
      return;
    }
    TaskOrder order;
    order.before_tasks();
    arena_.execute([&] {
      oneapi::tbb::parallel_for(oneapi::tbb::blocked_range<int64_t>(0, tasks, 1),
                                [&](const oneapi::tbb::blocked_range<int64_t>& range) {
                                  order.task_begins();
                                  const int worker = oneapi::tbb::this_task_arena::current_thread_index();
                                  for (int64_t task = range.begin(); task < range.end(); ++task) body(task, worker);
                                  order.task_ends();
                                });
    });
    order.after_tasks();
  }

 private:
  oneapi::tbb::task_arena arena_;
};

/// The hardware's number of threads.
int hardware_threads();
/// Thread count to use: `requested` if positive, else NALAB_THREADS, else the hardware's.
/// Throws Error if NALAB_THREADS is not a number from 1 to 1024.
int choose_threads(int requested);

}  // namespace nalab
