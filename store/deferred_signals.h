// Signals that would end the process wait while there is something in a folder that must not stay.
#pragma once

namespace nalab::store {

/// As long as it lives, SIGHUP, SIGINT, SIGQUIT and SIGTERM do nothing but wait; the destructor lets them act. A thread
/// may have several, of which the outermost counts; the constructor of another thread waits for it. SIGKILL cannot be
/// deferred.
class DeferredSignals {
 public:
  DeferredSignals();
  ~DeferredSignals();
  DeferredSignals(const DeferredSignals&) = delete;
  DeferredSignals& operator=(const DeferredSignals&) = delete;

  /// Whether one of them is waiting.
  bool arrived() const;
};

}  // namespace nalab::store
