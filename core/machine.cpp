#include "core/machine.h"

#include <fstream>
#include <string>

namespace nalab {

namespace {

/// The first word of a file; empty if there is no such file.
std::string word_of(const std::string& path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

/// Bytes of the data cache of a level that the first CPU sees; 0 if unknown.
int64_t cache_bytes(const std::string& level) {
  for (int i = 0; i < 8; ++i) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    if (word_of(folder + "level") != level || word_of(folder + "type") == "Instruction") continue;
    int64_t size = 0;
    char unit = ' ';
    std::ifstream(folder + "size") >> size >> unit;
    return unit == 'K' ? size << 10 : unit == 'M' ? size << 20 : size;
  }
  return 0;
}

}  // namespace

const Machine& host_machine() {
  static const Machine machine{cache_bytes("1"), cache_bytes("2"), cache_bytes("3")};
  return machine;
}

}  // namespace nalab
