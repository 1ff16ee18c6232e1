// The descriptors 0 to 2 of a process.
#pragma once

namespace nalab::cli {

/// Opens /dev/null in place of standard input, output and error, as far as they are closed. Otherwise the next files to
/// be opened would take their places, and what is printed would be written into them.
void open_standard_streams();

}  // namespace nalab::cli
