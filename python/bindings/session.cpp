#include "python/bindings/session.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <list>
#include <map>
#include <mutex>
#include <string>

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
  std::map<int, std::unique_ptr<Context>> contexts;
  std::list<std::pair<Request, std::shared_ptr<const Plan>>> plans;  ///< the latest used first
};

constexpr std::size_t kMostPlans = 256;  ///< more than a model has layers of different shapes

/// Never destroyed: calls of other threads may outlive the interpreter.
std::atomic<Session*> session = nullptr;

/// In a forked process: a lock of the parent's session may be held by a thread that does not exist here.
void begin_anew() { session = new Session; }

Session& current() {
  static const bool started = [] {
    begin_anew();
    pthread_atfork(nullptr, nullptr, begin_anew);
    return true;
  }();
  static_cast<void>(started);
  return *session.load();
}

}  // namespace

Context& context(int requested) {
  const int threads = choose_threads(requested);
  Session& s = current();
  const std::lock_guard lock(s.guard);
  std::unique_ptr<Context>& context = s.contexts[threads];
  if (context == nullptr) context = std::make_unique<Context>(threads);
  return *context;
}

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
