#include "cli/interruption.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <string_view>

namespace nalab::cli {

namespace {

constexpr std::array kSignals{SIGINT, SIGTERM};

std::atomic<bool> asked = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");
std::array<struct sigaction, kSignals.size()> before;

void restore() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before[i], nullptr);
}

void ask_to_stop(int) {
  const int error = errno;
  asked = true;
  restore();
  constexpr std::string_view kText = "\nnalab: ends after the call at hand; another signal ends it at once\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kText.data(), kText.size());
  errno = error;
}

}  // namespace

Interruption::Interruption() {
  asked = false;
  struct sigaction action {};
  action.sa_handler = ask_to_stop;
  action.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    ::sigaction(kSignals[i], nullptr, &before[i]);
    if (before[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
  }
}

Interruption::~Interruption() { restore(); }

bool Interruption::requested() { return asked; }

}  // namespace nalab::cli
