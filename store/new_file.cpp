#include "store/new_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <random>

#include "core/error.h"
#include "store/deferred_signals.h"
#include "store/system_calls.h"

namespace nalab::store {

namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // as Linux

/// Where the file really is, behind links that may lead to nothing yet. Throws Error if a regular file cannot be
/// written there.
std::string target_of(const std::string& path) {
  if (path.empty()) throw Error("the name of the file to write is empty");
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::none) fail_to_write(path, error.value());
  if (fs::is_directory(status)) fail_to_write(path, EISDIR);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw Error(path + ": is not a regular file; refusing to replace it");
  }
  fs::path target = path;
  for (int links = 0; fs::is_symlink(fs::symlink_status(target, error)); ++links) {
    if (links == kMostLinks) fail_to_write(path, ELOOP);
    target = target.parent_path() / fs::read_symlink(target, error);
    if (error) fail_to_write(path, error.value());
  }
  if (!target.has_filename()) fail_to_write(path, EISDIR);
  return target.string();
}

std::string folder_of(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  return folder.empty() ? "." : folder.string();
}

/// A new file under a temporary name, which is stored in `name`. Returns an invalid descriptor, and errno, if there can
/// be none.
Descriptor create_named(const std::string& path, std::string& name) {
  for (;;) {
    name = name_beside(path);
    Descriptor file(system_calls.open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file.id() >= 0 || errno != EEXIST) return file;
  }
}

/// A file without a name in the folder of `path`, with the permissions of any new file.
Descriptor create_unnamed(const std::string& path) {
  Descriptor file(system_calls.open(folder_of(path).c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0666));
  if (file.id() >= 0) return file;
  // Not every file system has them.
  const DeferredSignals deferred;
  std::string name;
  file = create_named(path, name);
  if (file.id() >= 0) ::unlink(name.c_str());
  return file;
}

/// Hands on the permissions and the owner of a file. The owner can be handed on by root alone, a group by its members.
void inherit(const struct stat& from, const Descriptor& to) {
  if (::fchown(to.id(), from.st_uid, from.st_gid) != 0) errno = 0;
  ::fchmod(to.id(), from.st_mode & 07777);
}

struct flock whole_file() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  return lock;
}

/// False if another process has the lock. A file system without locks grants it to everybody. The lock belongs to the
/// open file, so closing another descriptor of it does not matter, nor does HDF5's own flock, which readers take.
bool lock(const Descriptor& file) {
  struct flock whole = whole_file();
  return ::fcntl(file.id(), F_OFD_SETLK, &whole) == 0 || (errno != EAGAIN && errno != EACCES);
}

bool is_locked(const std::string& path) {
  const Descriptor file(system_calls.open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0));
  struct flock whole = whole_file();
  return file.id() >= 0 && ::fcntl(file.id(), F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

/// fsync, where the file system has it. Returns 0, or errno.
int sync(int descriptor) {
  while (system_calls.fsync(descriptor) != 0) {
    if (errno == EINVAL || errno == ENOTSUP || errno == EROFS) return 0;
    if (errno != EINTR) return errno;
  }
  return 0;
}

/// Makes the names in a folder last.
int sync_folder(const std::string& folder) {
  const Descriptor opened(system_calls.open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
  return opened.id() < 0 ? 0 : sync(opened.id());  // a folder may be writable only
}

}  // namespace

void fail_to_write(const std::string& path, int code) {
  throw Error(path + ": cannot be written: " + std::strerror(code));
}

std::string real_path(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  return error ? path : real.string();
}

std::string name_beside(const std::string& path, std::string_view ending) {
  constexpr std::string_view kCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  constexpr std::size_t kRandom = 6;
  const std::string folder = folder_of(path);
  const long limit = ::pathconf(folder.c_str(), _PC_NAME_MAX);
  const std::size_t most = static_cast<std::size_t>(limit > 0 ? limit : 255) - 1 - kRandom - ending.size();
  std::string name = fs::path(path).filename().string();
  if (name.size() > most) {
    std::size_t kept = most;
    while (kept > 0 && (static_cast<unsigned char>(name[kept]) & 0xC0) == 0x80) --kept;  // UTF-8 stays whole
    name.resize(kept);
  }
  name += '.';
  std::random_device random;
  std::uniform_int_distribution<std::size_t> any(0, kCharacters.size() - 1);
  for (std::size_t i = 0; i < kRandom; ++i) name += kCharacters[any(random)];
  return (fs::path(folder) / name.append(ending)).string();
}

int write_all(int descriptor, std::string_view bytes, off_t offset) {
  while (!bytes.empty()) {
    const ssize_t written = system_calls.pwrite(descriptor, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(written));
    offset += written;
  }
  return 0;
}

int copy_all(int from, int to, const std::function<bool()>& stop) {
  std::array<char, 1 << 16> buffer;
  for (off_t offset = 0; !stop();) {
    const ssize_t count = ::pread(from, buffer.data(), buffer.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) return 0;
    if (const int error = write_all(to, {buffer.data(), static_cast<std::size_t>(count)}, offset)) return error;
    offset += count;
  }
  return EINTR;
}

Descriptor::~Descriptor() {
  if (id_ >= 0) ::close(id_);
}

NewFile::NewFile(const std::string& path, const Descriptor* held) : path_(target_of(path)) {
  struct stat before;
  const bool exists = ::stat(path_.c_str(), &before) == 0;
  if (exists && ::faccessat(AT_FDCWD, path_.c_str(), W_OK, AT_EACCESS) != 0) fail_to_write(path, errno);
  if (exists && held == nullptr && is_locked(path_)) throw Error(path + ": another run is writing it");
  descriptor_ = create_unnamed(path_);
  if (descriptor_.id() < 0) fail_to_write(path, errno);
  if (exists) inherit(before, descriptor_);
  lock(descriptor_);
}

Descriptor NewFile::commit(std::string_view bytes, Existing existing) {
  if (const int error = write_all(descriptor_.id(), bytes, 0)) fail_to_write(path_, error);
  return commit(existing);
}

Descriptor NewFile::commit(Existing existing) {
  if (const int error = sync(descriptor_.id())) fail_to_write(path_, error);
  take_name(existing);
  if (const int error = sync_folder(folder_of(path_))) fail_to_write(path_, error);
  return std::move(descriptor_);
}

void NewFile::take_name(Existing existing) {
  const std::string unnamed = "/proc/self/fd/" + std::to_string(descriptor_.id());
  const auto link_as = [&](const std::string& name) {
    return ::linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
  };
  if (link_as(path_)) return;
  if (errno == EEXIST && existing == Existing::refuse) throw Error(path_ + ": has been made by another program");

  const DeferredSignals deferred;
  std::string temporary = name_beside(path_);
  int error = 0;
  if (!link_as(temporary)) {
    Descriptor named = create_named(path_, temporary);
    if (named.id() < 0) fail_to_write(path_, errno);
    struct stat status;
    ::fstat(descriptor_.id(), &status);
    inherit(status, named);
    lock(named);
    error = copy_all(descriptor_.id(), named.id(), [&] { return deferred.arrived(); });
    if (error == 0) error = sync(named.id());
    descriptor_ = std::move(named);
  }
  if (error == 0 && existing == Existing::refuse && ::access(path_.c_str(), F_OK) == 0) error = EEXIST;
  if (error == 0 && system_calls.rename(temporary.c_str(), path_.c_str()) != 0) error = errno;
  if (error == 0) return;
  ::unlink(temporary.c_str());
  fail_to_write(path_, error);
}

Descriptor lock_file(const std::string& path) {
  Descriptor file(system_calls.open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK, 0));
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
