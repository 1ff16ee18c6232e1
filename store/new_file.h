// Files that appear whole or not at all, and results files that only one run at a time can write.
#pragma once

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

/// A file under a temporary name beside `path`, which becomes `path` at commit() and is removed if commit() is not
/// reached.
class NewFile {
 public:
  /// Throws Error if `path` cannot be written, or exists and is not a regular file: this is known before any work.
  explicit NewFile(const std::string& path);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  /// Writes the whole file. If that throws Error (for example on a full disk), `path` is left as it was. The file is
  /// locked against lock_file() as long as the descriptor lives.
  Descriptor commit(std::string_view bytes);

 private:
  std::string path_;
  std::string temporary_;
  Descriptor descriptor_;
};

/// Locks a file as long as the descriptor lives. Throws Error if it is already locked or cannot be written.
/// Anything that replaces the file meanwhile uses NewFile, which is locked before it takes its name: so the file under
/// `path` is locked at every moment.
Descriptor lock_file(const std::string& path);

/// Whether `path` is still the file that was opened.
bool is_file_at(const Descriptor& descriptor, const std::string& path);

}  // namespace nalab::store
