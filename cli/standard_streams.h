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

}  // namespace nalab::cli
