// HDF5's way to files, without its locks: neither does a reader keep a writer from its file nor a writer a reader, and
// no setting of the environment changes that.
#pragma once

#include "store/hdf5.h"

namespace nalab::store::hdf5 {

/// A file that HDF5 is writing. HDF5 cannot close a file that it fails to write, so an error is noted here, and what
/// HDF5 goes on to write is dropped.
struct WriteTarget {
  int descriptor = -1;
  int error = 0;  ///< errno of the first write that failed; 0 if none has
};

/// File access for reading: regular files, by their names.
Handle read_access();
/// File access for writing to a target, whatever the file's name. The target must outlive the file.
Handle write_access(WriteTarget& target);

}  // namespace nalab::store::hdf5
