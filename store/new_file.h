// Files that appear whole or not at all, and results files that one run at a time writes.
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

/// A file under a name of its own beside `path`, which becomes `path` at commit() and vanishes where that is not
/// reached.
class NewFile {
 public:
  /// Throws Error where `path` cannot be written, or is there and no regular file: so this is known before any work.
  explicit NewFile(const std::string& path);
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  /// Writes all of the file. Throws Error (a full disk) that leaves `path` as it was. The file is locked against
  /// lock_file() as long as the descriptor lives.
  Descriptor commit(std::string_view bytes);

 private:
  std::string path_;
  std::string temporary_;
  Descriptor descriptor_;
};

/// Locks a file as long as the descriptor lives. Throws Error where it is locked already, or cannot be written.
/// Whoever replaces the file meanwhile does so with NewFile, which is locked before it takes its name: so the file
/// under `path` is locked at every moment.
Descriptor lock_file(const std::string& path);

/// Whether `path` still is the file that was opened.
bool is_file_at(const Descriptor& descriptor, const std::string& path);

}  // namespace nalab::store
