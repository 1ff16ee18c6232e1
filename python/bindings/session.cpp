#include "python/bindings/session.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "core/parallel.h"

namespace nalab::python {

namespace {

/// What decides a plan. The variables are read at every call, as the library does.
struct Request {
  Problem problem;
  Pass pass;
  std::string variant, isa, arithmetic;
  bool tokens_in_a_row;

  bool operator==(const Request&) const = default;
};

std::string variable(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? "" : text;
}

struct Session {
  std::mutex guard;
  std::map<std::pair<int, uintptr_t>, std::unique_ptr<Context>> contexts;  ///< by threads and OpenMP runtime
  std::list<std::pair<Request, std::shared_ptr<const Plan>>> plans;        ///< the latest used first
};

constexpr std::size_t kMostPlans = 256;  ///< more than a model has layers of different shapes

std::atomic<uintptr_t> openmp = 0;  ///< the address of its GOMP_parallel
bool is_forked = false;             ///< and without the threads of OpenMP that its parent had

/// Never destroyed: calls of other threads may outlive the interpreter.
std::atomic<Session*> session = nullptr;

/// In a forked process: a lock of the parent's session may be held by a thread that does not exist here, and OpenMP
/// waits for threads that do not.
void begin_anew() {
  is_forked = true;
  openmp = 0;
  session = new Session;
}

Session& current() {
  static const bool started = [] {
    session = new Session;
    pthread_atfork(nullptr, nullptr, begin_anew);
    return true;
  }();
  static_cast<void>(started);
  return *session.load();
}

/// OpenMP's entry that compiled `#pragma omp parallel` calls: GNU's, which LLVM's and Intel's runtimes have too.
using GompParallel = void (*)(void (*member)(void*), void* data, unsigned threads, unsigned flags);

Team team_of(uintptr_t gomp_parallel) {
  if (gomp_parallel == 0) return nullptr;
  return [parallel = reinterpret_cast<GompParallel>(gomp_parallel)](void (*member)(void*), void* data, int threads) {
    parallel(member, data, static_cast<unsigned>(threads), 0);
  };
}

}  // namespace

void watch_forks() { current(); }

void use_openmp(uintptr_t gomp_parallel) {
  current();
  if (!is_forked) openmp = gomp_parallel;
}

Context& context(int requested) {
  const int threads = choose_threads(requested);
  const uintptr_t team = openmp;
  Session& s = current();
  const std::lock_guard lock(s.guard);
  std::unique_ptr<Context>& context = s.contexts[{threads, team}];
  if (context == nullptr) context = std::make_unique<Context>(threads, team_of(team));
  return *context;
}

int threads_of_environment() { return variable("NALAB_THREADS").empty() ? 0 : choose_threads(0); }

std::shared_ptr<const Plan> plan_for(const Problem& problem, Pass pass, std::string_view variant,
                                     bool tokens_in_a_row) {
  Session& s = current();
  Request request{problem,        pass, std::string(variant), variable("NALAB_ISA"), variable("NALAB_ARITHMETIC"),
                  tokens_in_a_row};
  {
    const std::lock_guard lock(s.guard);
    for (auto found = s.plans.begin(); found != s.plans.end(); ++found) {
      if (found->first != request) continue;
      s.plans.splice(s.plans.begin(), s.plans, found);
      return s.plans.front().second;
    }
  }
  const auto plan = std::make_shared<const Plan>(
      make_plan(problem, pass, {.variant = request.variant, .tokens_in_a_row = tokens_in_a_row}));
  const std::lock_guard lock(s.guard);
  s.plans.emplace_front(std::move(request), plan);
  if (s.plans.size() > kMostPlans) s.plans.pop_back();
  return plan;
}

}  // namespace nalab::python
