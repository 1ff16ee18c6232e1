// The descriptors 0 to 2 of a process, and what is printed there.
#pragma once

#include <string>
#include <string_view>

namespace nalab::cli {

/// Opens /dev/null in place of standard input, output and error, as far as they are closed. Otherwise the next files to
/// be opened would take their places, and what is printed would be written into them.
void open_standard_streams();

/// Text as part of a line that a terminal shows, whatever a file or a name holds: line breaks and tabs become blanks,
/// other control characters, U+0080 to U+009F among them, are written as \x1b.
std::string printable(std::string_view text);

/// Calls put(char) for each character of printable(text). Takes no memory, so that a signal handler may call it.
template <class Put>
void for_each_printable(std::string_view text, Put put) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto put_number = [&](unsigned value) {
    for (const char c : {'\\', 'x', "0123456789abcdef"[value / 16], "0123456789abcdef"[value % 16]}) put(c);
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
      put(' ');
    } else if (byte(i) < 0x20 || byte(i) == 0x7F) {
      put_number(byte(i));
    } else if (byte(i) == 0xC2 && byte(i + 1) >= 0x80 && byte(i + 1) < 0xA0) {  // U+0080 to U+009F
      put_number(byte(++i));
    } else {
      put(text[i]);
    }
  }
}

}  // namespace nalab::cli
