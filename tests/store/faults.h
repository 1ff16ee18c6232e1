// Faults that are hard to come by: system calls that fail, processes that are ended, users without rights.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>

#include "store/system_calls.h"
#include "tests/store/signals.h"

namespace nalab::store {

/// Puts the system calls back that a test replaces.
class ReplacedCalls {
 public:
  ~ReplacedCalls() { system_calls = SystemCalls{}; }
};

/// A file system that has no files without names.
inline void without_unnamed_files() {
  system_calls.open = [](const char* path, int flags, mode_t mode) {
    if ((flags & O_TMPFILE) == O_TMPFILE) {
      errno = EOPNOTSUPP;
      return -1;
    }
    return ::open(path, flags, mode);
  };
}

/// A disk on which this many bytes are left.
inline int64_t bytes_left;
inline void full_after(int64_t bytes) {
  bytes_left = bytes;
  system_calls.pwrite = [](int descriptor, const void* data, std::size_t size, off_t offset) -> ssize_t {
    if (bytes_left == 0) {
      errno = ENOSPC;
      return -1;
    }
    const ssize_t written = ::pwrite(descriptor, data, std::min<std::size_t>(size, bytes_left), offset);
    bytes_left -= written;
    return written;
  };
}

/// Calls f() in a process of its own. Returns what waitpid() says of it: it exits with 0 if f() returns.
template <class F>
int in_child(const F& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    let_signals_end_this_process();
    f();
    ::_exit(0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

inline bool ended_by(int status, int signal) { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }

/// Root may write everywhere; nobody may not.
inline void become_nobody() {
  if (::geteuid() == 0 && ::seteuid(65534) != 0) ::_exit(99);
}

}  // namespace nalab::store
