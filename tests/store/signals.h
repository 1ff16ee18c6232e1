// Signals in the children of tests.
#pragma once

#include <signal.h>

namespace nalab {

/// Lets signals end a child, as a test expects, where its parent ignores them: shells start background jobs with SIGINT
/// and SIGQUIT ignored, and nohup ignores SIGHUP.
inline void let_signals_end_this_process() {
  for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM}) ::signal(number, SIG_DFL);
}

}  // namespace nalab
