#include "store/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace nalab::store {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_to_write(const std::string& path, int code) {
  throw Error(path + ": cannot be written: " + std::strerror(code));
}

/// Where the file really is, behind links. Throws Error if a regular file cannot be written there.
std::string target_of(const std::string& path) {
  if (path.empty()) throw Error("the name of the file to write is empty");
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::none) fail_to_write(path, error.value());
  if (fs::is_directory(status)) fail_to_write(path, EISDIR);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw Error(path + ": is not a regular file; refusing to replace it");
  }
  const std::string target = fs::weakly_canonical(path, error).string();
  if (error) fail_to_write(path, error.value());
  return target;
}

/// The permissions that a new file has by default; mkostemp gives it fewer.
mode_t default_mode() {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  return 0666 & ~mask;
}

/// False if another process has the lock. A file system without locks grants it to everybody. The lock belongs to the
/// open file, so closing another descriptor of it does not matter, nor does HDF5's own flock, which readers take.
bool lock(const Descriptor& file) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  return ::fcntl(file.id(), F_OFD_SETLK, &whole) == 0 || (errno != EAGAIN && errno != EACCES);
}

}  // namespace

Descriptor::~Descriptor() {
  if (id_ >= 0) ::close(id_);
}

NewFile::NewFile(const std::string& path) : path_(target_of(path)), temporary_(path_ + ".XXXXXX") {
  descriptor_ = Descriptor(::mkostemp(temporary_.data(), O_CLOEXEC));
  if (descriptor_.id() < 0) fail_to_write(path, errno);
  ::fchmod(descriptor_.id(), default_mode());
  lock(descriptor_);
}

NewFile::~NewFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Descriptor NewFile::commit(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_.id(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_to_write(path_, errno);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  // Some write errors are reported only on closing; the file itself stays open for its lock.
  if (::close(::dup(descriptor_.id())) != 0) fail_to_write(path_, errno);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_to_write(path_, errno);
  temporary_.clear();
  return std::move(descriptor_);
}

Descriptor lock_file(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (file.id() < 0) fail_to_write(path, errno);
  // A file that was replaced since it was opened belongs to another run.
  if (!lock(file) || !is_file_at(file, path)) throw Error(path + ": another run is writing it");
  return file;
}

bool is_file_at(const Descriptor& descriptor, const std::string& path) {
  struct stat opened, there;
  return ::fstat(descriptor.id(), &opened) == 0 && ::stat(path.c_str(), &there) == 0 && opened.st_dev == there.st_dev &&
         opened.st_ino == there.st_ino;
}

}  // namespace nalab::store
