// A pool of its own rather than oneTBB's, because TBB has one limit of threads for the whole process, prints a warning
// where a request exceeds it, aborts where a thread cannot be started, and does not outlive a fork.
#include "core/parallel.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cfenv>
#include <charconv>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"

namespace nalab {

/// A call of for_each(), on the stack of its caller.
struct Workers::Call {
  int64_t tasks;
  int threads;  ///< at most
  const void* body;
  Range range;
  std::fenv_t environment{};
  std::atomic<int64_t> next = 0;  ///< the first task that nobody has claimed
  std::mutex lock{};
  std::exception_ptr exception = {};  ///< the first one; under the lock
  std::atomic<int> helpers = 0;       ///< of a pool, at work; changed under the pool's lock

  bool is_open() const { return next < tasks; }
  /// Takes tasks until none is left.
  void work(int worker);
};

void Workers::Call::work(int worker) {
  // Fewer tasks at a time the fewer are left, so that all threads end together.
  const int64_t parts = 4 * static_cast<int64_t>(threads);
  try {
    for (int64_t begin = next; begin < tasks;) {
      const int64_t end = begin + std::max<int64_t>(1, (tasks - begin) / parts);
      if (!next.compare_exchange_weak(begin, end)) continue;
      range(body, begin, end, worker);
      begin = next;
    }
  } catch (...) {
    next = tasks;
    const std::lock_guard guard(lock);
    if (exception == nullptr) exception = std::current_exception();
  }
}

/// Helper threads, and the calls that they help with.
class Workers::Pool {
 public:
  /// Throws Error if the system refuses a thread.
  explicit Pool(int helpers);
  ~Pool() { stop(); }

  /// Whether its threads are of this process, and not of the one that it was forked from.
  bool lives_here() const { return process_ == getpid(); }

  void run(Call& call);

 private:
  void stop();
  void serve(int worker);
  Call* open_call() const;
  /// Gives the processor away until the condition holds or a while has passed.
  template <class Condition>
  static void linger(const Condition& condition);

  const pid_t process_ = getpid();
  std::mutex lock_;
  std::condition_variable news_;      ///< a call was added, or the pool stops
  std::condition_variable finished_;  ///< a call was left by its last helper
  std::atomic<uint64_t> events_ = 0;  ///< what news_ tells of; changed under the lock
  std::vector<Call*> calls_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

Workers::Pool::Pool(int helpers) {
  threads_.reserve(static_cast<std::size_t>(helpers));
  try {
    for (int worker = 1; worker <= helpers; ++worker) threads_.emplace_back([this, worker] { serve(worker); });
  } catch (const std::system_error& error) {
    const std::size_t started = threads_.size() + 1;
    stop();
    throw Error(std::to_string(helpers + 1) + " threads cannot be started, only " + std::to_string(started) + ": " +
                error.code().message());
  } catch (...) {
    stop();
    throw;
  }
}

void Workers::Pool::stop() {
  {
    const std::lock_guard guard(lock_);
    stopping_ = true;
    ++events_;
  }
  news_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

template <class Condition>
void Workers::Pool::linger(const Condition& condition) {
  // About 50 us where the processor has nothing else to do. The calls of a pass follow each other faster than that, and
  // to wake a thread that sleeps takes about as long.
  constexpr int kTries = 200;
  for (int tries = 0; tries < kTries && !condition(); ++tries) std::this_thread::yield();
}

Workers::Call* Workers::Pool::open_call() const {
  const auto open = std::ranges::find_if(calls_, &Call::is_open);
  return open == calls_.end() ? nullptr : *open;
}

/// A helper helps with one call at a time, hence it has the same number in all of them; the caller is number 0.
void Workers::Pool::serve(int worker) {
  std::unique_lock guard(lock_);
  while (true) {
    if (Call* const call = open_call()) {
      ++call->helpers;
      guard.unlock();
      std::fesetenv(&call->environment);
      call->work(worker);
      guard.lock();
      if (--call->helpers == 0) finished_.notify_all();
      continue;
    }
    if (stopping_) return;
    const uint64_t seen = events_;
    const auto happened = [&] { return events_ != seen; };
    guard.unlock();
    linger(happened);
    guard.lock();
    news_.wait(guard, happened);
  }
}

void Workers::Pool::run(Call& call) {
  {
    const std::lock_guard guard(lock_);
    calls_.push_back(&call);
    ++events_;
  }
  const int64_t wanted = std::min(call.tasks - 1, static_cast<int64_t>(threads_.size()));
  for (int64_t helper = 0; helper < wanted; ++helper) news_.notify_one();
  call.work(0);
  std::unique_lock guard(lock_);
  calls_.erase(std::ranges::find(calls_, &call));
  if (call.helpers > 0) {
    guard.unlock();
    linger([&] { return call.helpers == 0; });
    guard.lock();
    finished_.wait(guard, [&] { return call.helpers == 0; });
  }
}

namespace {

int checked(int threads) {
  if (threads >= 1 && threads <= kMaxThreads) return threads;
  throw Error("threads " + std::to_string(threads) + " must be from 1 to " + std::to_string(kMaxThreads));
}

}  // namespace

Workers::Workers(int threads, Team team)
    : threads_(checked(threads)),
      team_(std::move(team)),
      process_(getpid()),
      pool_(team_ == nullptr ? new Pool(threads - 1) : nullptr) {}

Workers::~Workers() {
  Pool* const pool = pool_;
  // The threads of a parent process cannot be joined; what is left of them is left to lie.
  if (pool != nullptr && pool->lives_here()) delete pool;
}

Workers::Pool& Workers::pool() {
  Pool* pool = pool_;
  if (pool != nullptr && pool->lives_here()) return *pool;
  auto own = std::make_unique<Pool>(threads_ - 1);
  return pool_.compare_exchange_strong(pool, own.get()) ? *own.release() : *pool;
}

void Workers::run_on_team(Call& call) {
  struct Members {
    Call& call;
    std::atomic<int> count = 0;
  } members{call};
  const auto member = [](void* data) {
    auto& all = *static_cast<Members*>(data);
    const int worker = all.count++;
    std::fenv_t own;
    std::fegetenv(&own);
    std::fesetenv(&all.call.environment);
    all.call.work(worker);
    std::fesetenv(&own);
  };
  team_(member, &members, static_cast<int>(std::min<int64_t>(threads_, call.tasks)));
}

void Workers::run(int64_t tasks, const void* body, Range range) {
  if (tasks <= 0) return;
  if (threads_ == 1 || tasks == 1) return range(body, 0, tasks, 0);
  Call call{tasks, threads_, body, range};
  std::fegetenv(&call.environment);
  if (team_ != nullptr && process_ == getpid()) {
    run_on_team(call);
  } else {
    pool().run(call);
  }
  if (call.exception != nullptr) std::rethrow_exception(call.exception);
}

int hardware_threads() {
  cpu_set_t allowed;
  // More CPUs than fit into the set: an error.
  const int threads = sched_getaffinity(0, sizeof allowed, &allowed) == 0
                          ? CPU_COUNT(&allowed)
                          : static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(threads, 1, kMaxThreads);
}

int choose_threads(int requested) {
  if (requested > 0) return requested;
  const char* text = std::getenv("NALAB_THREADS");
  if (text == nullptr || *text == '\0') return hardware_threads();
  const std::string_view view = text;
  int threads = 0;
  const auto [end, code] = std::from_chars(view.data(), view.data() + view.size(), threads);
  if (code != std::errc{} || end != view.data() + view.size() || threads < 1 || threads > kMaxThreads) {
    throw Error("NALAB_THREADS '" + std::string(view) + "' must be a number from 1 to " + std::to_string(kMaxThreads));
  }
  return threads;
}

}  // namespace nalab
