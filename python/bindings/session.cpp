#include "python/bindings/session.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <list>
#include <mutex>
#include <new>
#include <sstream>
#include <string>
#include <utility>

#include "core/parallel.h"
#include "python/bindings/gomp_team.h"

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

using Crew = std::pair<int, uintptr_t>;  ///< threads, and the OpenMP runtime that they are of

/// All lists: the latest used first.
struct Session {
  std::mutex guard;
  std::list<std::pair<Crew, std::shared_ptr<Context>>> contexts;
  std::list<std::pair<Request, std::shared_ptr<const Plan>>> plans;
  std::list<std::unique_ptr<Memory>> idle;
  int64_t idle_bytes = 0;
};

constexpr std::size_t kMostContexts = 4;  ///< each holds the workspace of its largest call
constexpr std::size_t kMostPlans = 256;   ///< more than a model has layers of different shapes
constexpr int64_t kMostIdleBytes = 64 << 20;

/// What the list has for a key, moved to its front; null if it has none.
template <class Key, class Value>
std::shared_ptr<Value> find(std::list<std::pair<Key, std::shared_ptr<Value>>>& list, const Key& key) {
  for (auto found = list.begin(); found != list.end(); ++found) {
    if (found->first != key) continue;
    list.splice(list.begin(), list, found);
    return found->second;
  }
  return nullptr;
}

std::atomic<uintptr_t> openmp = 0;  ///< the address of its GOMP_parallel
bool is_forked = false;             ///< so that OpenMP may lack threads that it had in the parent

/// Never destroyed: calls of other threads may outlive the interpreter.
std::atomic<Session*> session = nullptr;

/// In a forked process: a lock of the parent's session may be held by a thread that does not exist here, and OpenMP
/// waits for threads that do not.
void begin_anew() {
  is_forked = true;
  openmp = 0;
  session = new Session;
}

/// Whether the process is a copy of its parent, in which no other program was started since: Linux's PF_FORKNOEXEC.
bool is_copy_of_parent() {
  std::ifstream file("/proc/self/stat");  // pid (command) state ppid pgrp session tty tpgid flags
  const std::string line{std::istreambuf_iterator<char>(file), {}};
  std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 1)));
  std::string other;
  for (int i = 0; i < 6; ++i) fields >> other;
  constexpr unsigned kForkedWithoutExec = 0x40;
  unsigned flags = 0;
  return fields >> flags && (flags & kForkedWithoutExec) != 0;
}

Session& current() {
  static const bool started = [] {
    session = new Session;
    is_forked = is_copy_of_parent();
    pthread_atfork(nullptr, nullptr, begin_anew);
    return true;
  }();
  static_cast<void>(started);
  return *session.load();
}

}  // namespace

void watch_forks() { current(); }

void use_openmp(uintptr_t gomp_parallel) {
  current();
  if (!is_forked) openmp = gomp_parallel;
}

std::shared_ptr<Context> context(int requested) {
  const Crew crew{choose_threads(requested), openmp};
  Session& s = current();
  std::shared_ptr<Context> last;  // ends after the lock does: its threads are waited for
  const std::lock_guard lock(s.guard);
  if (auto kept = find(s.contexts, crew)) return kept;
  auto made = std::make_shared<Context>(crew.first, team_of(reinterpret_cast<void*>(crew.second)));
  s.contexts.emplace_front(crew, made);
  if (s.contexts.size() > kMostContexts) {
    last = std::move(s.contexts.back().second);
    s.contexts.pop_back();
  }
  return made;
}

std::unique_ptr<Memory> take_memory(int64_t bytes) {
  Session& s = current();
  {
    const std::lock_guard lock(s.guard);
    const int64_t most = bytes + bytes / 4;
    const auto fits = [&](const auto& memory) { return bytes <= memory->bytes() && memory->bytes() <= most; };
    if (const auto found = std::ranges::find_if(s.idle, fits); found != s.idle.end()) {
      auto memory = std::move(*found);
      s.idle.erase(found);
      s.idle_bytes -= memory->bytes();
      return memory;
    }
  }
  return std::make_unique<Memory>(bytes);
}

void give_back(std::unique_ptr<Memory> memory) noexcept {
  if (!memory->has_pages() || memory->bytes() > kMostIdleBytes) return;
  Session& s = current();
  std::list<std::unique_ptr<Memory>> own, last;  // freed after the lock is
  try {
    own.push_back(std::move(memory));
  } catch (const std::bad_alloc&) {
    return;
  }
  const std::lock_guard lock(s.guard);
  s.idle_bytes += own.front()->bytes();
  s.idle.splice(s.idle.begin(), own);
  while (s.idle_bytes > kMostIdleBytes) {
    s.idle_bytes -= s.idle.back()->bytes();
    last.splice(last.begin(), s.idle, std::prev(s.idle.end()));
  }
}

int threads_of_environment() { return variable("NALAB_THREADS").empty() ? 0 : choose_threads(0); }

std::shared_ptr<const Plan> plan_for(const Problem& problem, Pass pass, std::string_view variant,
                                     bool tokens_in_a_row) {
  Session& s = current();
  Request request{problem,        pass, std::string(variant), variable("NALAB_ISA"), variable("NALAB_ARITHMETIC"),
                  tokens_in_a_row};
  {
    const std::lock_guard lock(s.guard);
    if (auto kept = find(s.plans, request)) return kept;
  }
  const auto plan = std::make_shared<const Plan>(
      make_plan(problem, pass, {.variant = request.variant, .tokens_in_a_row = tokens_in_a_row}));
  const std::lock_guard lock(s.guard);
  s.plans.emplace_front(std::move(request), plan);
  if (s.plans.size() > kMostPlans) s.plans.pop_back();
  return plan;
}

}  // namespace nalab::python
