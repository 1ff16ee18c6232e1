#include "store/deferred_signals.h"

#include <signal.h>

#include <array>
#include <mutex>

namespace nalab::store {

namespace {

constexpr std::array kSignals{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

std::recursive_mutex one_thread_at_a_time;
int depth = 0;
std::array<struct sigaction, kSignals.size()> before;
std::array<volatile sig_atomic_t, kSignals.size()> waiting;

void wait(int signal) {
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i] == signal) waiting[i] = 1;
  }
}

}  // namespace

DeferredSignals::DeferredSignals() {
  one_thread_at_a_time.lock();
  if (++depth > 1) return;
  struct sigaction defer {};
  defer.sa_handler = wait;
  defer.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    waiting[i] = 0;
    ::sigaction(kSignals[i], nullptr, &before[i]);
    // What is ignored (nohup) stays ignored.
    if ((before[i].sa_flags & SA_SIGINFO) != 0 || before[i].sa_handler != SIG_IGN) {
      ::sigaction(kSignals[i], &defer, nullptr);
    }
  }
}

DeferredSignals::~DeferredSignals() {
  std::array<bool, kSignals.size()> arrived{};
  if (--depth > 0) {
    one_thread_at_a_time.unlock();
    return;
  }
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], &before[i], nullptr);
    arrived[i] = waiting[i] != 0;
  }
  one_thread_at_a_time.unlock();
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    if (arrived[i]) ::raise(kSignals[i]);
  }
}

bool DeferredSignals::arrived() const {
  for (const auto& one : waiting) {
    if (one != 0) return true;
  }
  return false;
}

}  // namespace nalab::store
