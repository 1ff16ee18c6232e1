// Threads: kernels say "for each task"; how many threads work is the caller's choice.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace nalab {

/// The most threads that can be asked for.
inline constexpr int kMaxThreads = 1024;

/// Threads of another library: calls member(data) once on each of up to `threads` threads at the same time, one of them
/// the calling thread, and returns when all have returned. It may use fewer. With OpenMP:
///
///     [](void (*member)(void*), void* data, int threads) {
///     #pragma omp parallel num_threads(threads)
///       member(data);
///     }
using Team = std::function<void(void (*member)(void* data), void* data, int threads)>;

/// A fixed number of threads. An object owns its threads and bounds its own calls: other objects and other thread
/// pools of the process are left alone. Several host threads may use one at once; each call works with at most
/// threads() threads, one of which is always the calling one. A task may call for_each() again.
///
/// Where another library's threads wait for work by spinning, as OpenMP's do for milliseconds, threads of one's own
/// would compete with them for the same cores: with a team an object has none, and its calls run on the team.
///
/// After a fork an object of the parent works in the child too, with threads of the child's own.
class Workers {
 public:
  /// threads: 1 to kMaxThreads, the calling thread included. Throws Error for other numbers, and if the system refuses
  /// to start so many.
  explicit Workers(int threads, Team team = nullptr);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int threads() const { return threads_; }

  /// Calls body(task, worker) once for each task in [0, tasks), in any order, from several threads, all of them in the
  /// floating-point environment of the caller. worker is in [0, threads()) and no two calls with the same worker
  /// overlap: it selects private memory. So that results do not depend on the thread count, a task must write only what
  /// no other task reads or writes.
  /// An exception of the body is passed on to the caller; tasks that other threads have taken on by then still run.
  template <class Body>
  void for_each(int64_t tasks, const Body& body) {
    run(tasks, &body, [](const void* erased, int64_t begin, int64_t end, int worker) {
      const Body& typed = *static_cast<const Body*>(erased);
      for (int64_t task = begin; task < end; ++task) typed(task, worker);
    });
  }

 private:
  /// Runs the body for tasks [begin, end).
  using Range = void (*)(const void* body, int64_t begin, int64_t end, int worker);
  struct Call;
  class Pool;

  void run(int64_t tasks, const void* body, Range range);
  void run_on_team(Call& call);
  Pool& pool();

  int threads_;
  Team team_;
  int process_;              ///< that made the object: its team does not outlive a fork
  std::atomic<Pool*> pool_;  ///< null until it is used, if there is a team
};

/// The number of hardware threads that the process may use.
int hardware_threads();
/// Thread count to use: `requested` if positive, else NALAB_THREADS, else the hardware's.
/// Throws Error if NALAB_THREADS is not a number from 1 to kMaxThreads.
int choose_threads(int requested);

}  // namespace nalab
