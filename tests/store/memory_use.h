// How much memory something takes at its peak.
#pragma once

#include <cstdint>
#include <fstream>
#include <limits>
#include <string>

namespace nalab::store {

/// A number of kB from /proc/self/status, in bytes.
inline int64_t status_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    int64_t kib = 0;
    if (word == key + ":" && file >> kib) return kib * 1024;
  }
  return 0;
}

/// Bytes by which memory grows at most while f() runs. 0 with sanitizers, which take memory of their own.
template <class F>
int64_t peak_growth(const F& f) {
#ifdef NALAB_SANITIZED
  f();
  return 0;
#else
  std::ofstream("/proc/self/clear_refs") << 5;  // the peak starts anew
  const int64_t before = status_bytes("VmRSS");
  f();
  return status_bytes("VmHWM") - before;
#endif
}

}  // namespace nalab::store
