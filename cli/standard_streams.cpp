#include "cli/standard_streams.h"

#include <fcntl.h>
#include <fmt/format.h>
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
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  std::string line;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
      line += ' ';
    } else if (byte(i) < 0x20 || byte(i) == 0x7F) {
      line += fmt::format("\\x{:02x}", byte(i));
    } else if (byte(i) == 0xC2 && byte(i + 1) >= 0x80 && byte(i + 1) < 0xA0) {  // U+0080 to U+009F
      line += fmt::format("\\x{:02x}", byte(++i));
    } else {
      line += text[i];
    }
  }
  return line;
}

}  // namespace nalab::cli
