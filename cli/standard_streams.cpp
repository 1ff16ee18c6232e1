#include "cli/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace nalab::cli {

void open_standard_streams() {
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
    if (::fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // A file that is opened gets the lowest descriptor. Where there is no /dev/null, a folder takes the place: it
    // cannot be written to.
    if (::open("/dev/null", O_RDWR) < 0) ::open("/", O_RDONLY);
  }
}

std::string printable(std::string_view text) {
  std::string line;
  for_each_printable(text, [&](char c) { line += c; });
  return line;
}

}  // namespace nalab::cli
