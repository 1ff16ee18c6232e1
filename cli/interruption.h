// Ctrl-C while a run goes on.
#pragma once

#include <csignal>

namespace nalab::cli {

/// While it lives, the first SIGINT or SIGTERM asks the run to end and says so; after it, both do what they did before.
/// A signal that the process was started to ignore stays ignored. One at a time.
class Interruption {
 public:
  Interruption();
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  /// Whether a signal has come.
  static bool requested();
};

/// What a shell reports of a command that Ctrl-C ended.
inline constexpr int kInterrupted = 128 + SIGINT;

}  // namespace nalab::cli
