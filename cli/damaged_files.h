// Files that HDF5 cannot read without reading beyond its memory.
#pragma once

namespace nalab::cli {

/// Lets SIGSEGV and SIGBUS end the process with one line and the exit code, while HDF5 reads texts (store/damage.h). At
/// other times they are left to what handled them before: a sanitizer, or the system.
void refuse_damaged_files(int exit_code);

}  // namespace nalab::cli
