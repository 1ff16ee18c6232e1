#include "store/file_driver.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <string_view>

#include "store/new_file.h"

namespace nalab::store::hdf5 {

namespace {

/// What a property list holds: where to write; null for reading.
struct Access {
  WriteTarget* target = nullptr;
};

struct File {
  H5FD_t common{};  ///< HDF5's; must come first
  int descriptor = -1;
  WriteTarget* target = nullptr;  ///< null if the file is open for reading; the descriptor is then its own
  haddr_t allocated = 0;          ///< end of what HDF5 has allocated
  haddr_t end = 0;
};

File& of(H5FD_t* file) { return *reinterpret_cast<File*>(file); }
const File& of(const H5FD_t* file) { return *reinterpret_cast<const File*>(file); }

H5FD_t* open(const char* name, unsigned flags, hid_t properties, haddr_t) {
  const auto* access = static_cast<const Access*>(H5Pget_driver_info(properties));
  auto* file = new File;
  file->target = access == nullptr ? nullptr : access->target;
  // A pipe would wait for its other end.
  file->descriptor =
      file->target != nullptr ? file->target->descriptor : ::open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat status {};
  if (file->descriptor >= 0 && ::fstat(file->descriptor, &status) == 0 && S_ISREG(status.st_mode)) {
    if (file->target == nullptr || (flags & H5F_ACC_TRUNC) == 0) file->end = static_cast<haddr_t>(status.st_size);
    return &file->common;
  }
  if (file->target == nullptr && file->descriptor >= 0) ::close(file->descriptor);
  delete file;
  return nullptr;
}

herr_t close(H5FD_t* file) {
  if (of(file).target == nullptr) ::close(of(file).descriptor);
  delete &of(file);
  return 0;
}

herr_t query(const H5FD_t*, unsigned long* flags) {
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
           H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

haddr_t get_allocated(const H5FD_t* file, H5FD_mem_t) { return of(file).allocated; }

herr_t set_allocated(H5FD_t* file, H5FD_mem_t, haddr_t end) {
  of(file).allocated = end;
  return 0;
}

haddr_t get_end(const H5FD_t* file, H5FD_mem_t) { return of(file).end; }

herr_t read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t size, void* buffer) {
  auto* to = static_cast<char*>(buffer);
  while (size > 0) {
    const ssize_t count = ::pread(of(file).descriptor, to, size, static_cast<off_t>(address));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    if (count == 0) {  // allocated, but not written yet
      std::fill_n(to, size, '\0');
      return 0;
    }
    to += count;
    address += static_cast<haddr_t>(count);
    size -= static_cast<size_t>(count);
  }
  return 0;
}

herr_t write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t size, const void* buffer) {
  File& f = of(file);
  if (f.target == nullptr) return -1;
  if (f.target->error == 0) {
    f.target->error = write_all(f.descriptor, {static_cast<const char*>(buffer), size}, static_cast<off_t>(address));
  }
  f.end = std::max(f.end, address + size);
  return 0;
}

herr_t truncate(H5FD_t* file, hid_t, hbool_t) {
  File& f = of(file);
  if (f.target == nullptr || f.end == f.allocated) return 0;
  if (f.target->error == 0 && ::ftruncate(f.descriptor, static_cast<off_t>(f.allocated)) != 0) f.target->error = errno;
  f.end = f.allocated;
  return 0;
}

hid_t driver() {
  static const hid_t id = [] {
    H5FD_class_t calls{};
    calls.name = "nalab";
    calls.maxaddr = static_cast<haddr_t>(std::numeric_limits<off_t>::max());
    calls.fc_degree = H5F_CLOSE_WEAK;
    calls.fapl_size = sizeof(Access);
    calls.open = open;
    calls.close = close;
    calls.query = query;
    calls.get_eoa = get_allocated;
    calls.set_eoa = set_allocated;
    calls.get_eof = get_end;
    calls.read = read;
    calls.write = write;
    calls.truncate = truncate;
    constexpr H5FD_mem_t kinds[] = H5FD_FLMAP_DICHOTOMY;
    std::copy(std::begin(kinds), std::end(kinds), calls.fl_map);
    return H5FDregister(&calls);
  }();
  return id;
}

Handle access_with(WriteTarget* target) {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), "file access");
  const Access info{target};
  check(H5Pset_driver(access, driver(), &info), "file access");
  return access;
}

}  // namespace

Handle read_access() { return access_with(nullptr); }

Handle write_access(WriteTarget& target) { return access_with(&target); }

}  // namespace nalab::store::hdf5
