#include "experiments/environment/peak_memory.h"

#include <fstream>
#include <string>

namespace nalab::environment {

bool reset_peak_memory() {
  std::ofstream file("/proc/self/clear_refs");
  file << '5';  // proc(5): the peak becomes what is held now
  return static_cast<bool>(file.flush());
}

int64_t peak_memory_bytes() {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    int64_t kilobytes = 0;
    if (word == "VmHWM:" && file >> kilobytes) return 1024 * kilobytes;
  }
  return 0;
}

}  // namespace nalab::environment
