// Memory of results.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace nalab::python {

/// Pages of the system's own, uninitialised to the caller. Not by malloc, whose heap gives nothing back to the system
/// as long as its last block is kept.
class Memory {
 public:
  /// bytes: at least 1. Throws std::bad_alloc if the system has not so many.
  explicit Memory(int64_t bytes)
      : bytes_(bytes),
        data_(mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0)) {
    if (data_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~Memory() { munmap(data_, static_cast<std::size_t>(bytes_)); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  int64_t bytes() const { return bytes_; }
  void* data() { return data_; }

 private:
  int64_t bytes_;
  void* data_;
};

}  // namespace nalab::python
