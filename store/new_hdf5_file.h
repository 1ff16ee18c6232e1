// HDF5 files that appear whole or not at all.
#pragma once

#include <string>

#include "store/file_driver.h"
#include "store/hdf5.h"
#include "store/new_file.h"

namespace nalab::store::hdf5 {

/// A file that is open and locked, to begin with a copy of it.
struct CopyOf {
  const Descriptor& locked;
};

/// A NewFile that HDF5 writes. It grows on the disk, not in memory. HDF5 cannot be trusted with the file at its own
/// place: if the disk fills up or the process is killed while HDF5 changes a file, the file no longer opens.
class NewHdf5File {
 public:
  /// An empty file. Throws Error as NewFile.
  explicit NewHdf5File(const std::string& path);
  /// One that is to replace a file that is locked; empty, or a copy of it.
  NewHdf5File(const std::string& path, const Descriptor& locked);
  NewHdf5File(const std::string& path, CopyOf original);
  NewHdf5File(const NewHdf5File&) = delete;
  NewHdf5File& operator=(const NewHdf5File&) = delete;

  /// Calls f(file), which adds to the file. Throws Error, with the path in front, if f does or if the disk is full.
  template <class F>
  void write(const F& f) {
    try {
      within(path_, [&] { f(static_cast<hid_t>(file_)); });
    } catch (const Error&) {
      require_written();
      throw;
    }
    require_written();
  }

  /// As NewFile. No object of the file may be open any more.
  Descriptor commit(Existing existing = Existing::replace);

 private:
  NewHdf5File(const std::string& path, const Descriptor* locked, bool copies);

  void require_written() const {
    if (target_.error != 0) fail_to_write(path_, target_.error);
  }

  std::string path_;
  NewFile new_file_;
  WriteTarget target_;
  Handle file_;
};

}  // namespace nalab::store::hdf5
