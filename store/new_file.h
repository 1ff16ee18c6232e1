// Files that appear whole or not at all, and results files that only one run at a time can write.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace nalab::store {

/// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int id = -1) : id_(id) {}
  Descriptor(Descriptor&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Descriptor();
  int id() const { return id_; }

 private:
  int id_;
};

/// What commit() does where a file has the name already.
enum class Existing { replace, refuse };

/// A file without a name, in the folder of `path`, which becomes `path` at commit(). If the process ends before,
/// however it ends, nothing is left of it. Where the file system has no files without names, and where it replaces
/// another file, it has a temporary name while commit() is at work: only SIGKILL can leave that behind.
class NewFile {
 public:
  /// Throws Error if `path` cannot be written, exists and is not a regular file, or is being written by a run (the
  /// holder of `held` excepted): this is known before any work. A symbolic link stays: the file is written where it
  /// points. A file that is replaced hands on its permissions.
  explicit NewFile(const std::string& path, const Descriptor* held = nullptr);

  /// To write to.
  int descriptor() const { return descriptor_.id(); }

  /// Makes what has been written the file `path`, on the disk with its name when this returns. Throws Error (for
  /// example on a full disk) and leaves `path` as it was, unless it is the folder alone that could not be written to
  /// the disk. The file is locked against lock_file() as long as the descriptor lives.
  Descriptor commit(Existing existing = Existing::replace);
  /// The same with the bytes of the whole file.
  Descriptor commit(std::string_view bytes, Existing existing = Existing::replace);

 private:
  void take_name(Existing existing);

  std::string path_;
  Descriptor descriptor_;
};

/// Where a file that exists really is, behind links.
std::string real_path(const std::string& path);

/// A name beside `path` that no file has, probably: what fits of its own name, a dot, six random characters and an
/// ending.
std::string name_beside(const std::string& path, std::string_view ending = "");

/// Writes at an offset. Returns 0, or errno.
int write_all(int descriptor, std::string_view bytes, off_t offset);

/// Copies all bytes of a file, unless `stop` says that it should not go on. Returns 0, or errno.
int copy_all(
    int from, int to, const std::function<bool()>& stop = [] { return false; });

/// Throws Error "PATH: cannot be written: ..."
[[noreturn]] void fail_to_write(const std::string& path, int code);

/// Locks a file as long as the descriptor lives. Throws Error if it is already locked or cannot be written.
/// Anything that replaces the file meanwhile uses NewFile, which is locked before it takes its name: so the file under
/// `path` is locked at every moment.
Descriptor lock_file(const std::string& path);

/// Whether `path` is still the file that was opened.
bool is_file_at(const Descriptor& descriptor, const std::string& path);

}  // namespace nalab::store
