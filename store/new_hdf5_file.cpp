#include "store/new_hdf5_file.h"

namespace nalab::store::hdf5 {

NewHdf5File::NewHdf5File(const std::string& path, const Descriptor* locked, bool copies)
    : path_(path), new_file_(path, locked), target_{new_file_.descriptor()} {
  silence();
  if (copies) {
    if (const int error = copy_all(locked->id(), target_.descriptor)) fail_to_write(path, error);
    file_ = {H5Fopen(path.c_str(), H5F_ACC_RDWR, write_access(target_)), path + ": cannot be opened as an HDF5 file"};
  } else {
    file_ = {H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, write_access(target_)), path + ": cannot be created"};
  }
}

NewHdf5File::NewHdf5File(const std::string& path) : NewHdf5File(path, nullptr, false) {}
NewHdf5File::NewHdf5File(const std::string& path, const Descriptor& locked) : NewHdf5File(path, &locked, false) {}
NewHdf5File::NewHdf5File(const std::string& path, CopyOf original) : NewHdf5File(path, &original.locked, true) {}

Descriptor NewHdf5File::commit(Existing existing) {
  write([](hid_t file) { check(H5Fflush(file, H5F_SCOPE_LOCAL), "cannot be written"); });
  write([this](hid_t) { check(H5Fclose(file_.release()), "cannot be closed"); });
  return new_file_.commit(existing);
}

}  // namespace nalab::store::hdf5
