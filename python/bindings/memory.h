// Memory of results.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

#include "core/tensor/buffer.h"

namespace nalab::python {

/// Uninitialised to the caller, 64-byte aligned. From 64 KiB on pages of the system's own: malloc's heap gives nothing
/// back to the system as long as its last block is kept. Less is malloc's: it would take a page, and a process may have
/// 65530 mappings.
class Memory {
 public:
  /// bytes: at least 1. Throws std::bad_alloc if the system has not so many.
  explicit Memory(int64_t bytes) : bytes_(bytes) {
    if (!has_pages()) {
      small_ = AlignedBuffer<std::byte>(bytes);
      return;
    }
    pages_ = mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~Memory() {
    if (has_pages()) munmap(pages_, static_cast<std::size_t>(bytes_));
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  int64_t bytes() const { return bytes_; }
  bool has_pages() const { return bytes_ >= 64 << 10; }
  void* data() { return has_pages() ? pages_ : small_.data(); }

 private:
  int64_t bytes_;
  AlignedBuffer<std::byte> small_;
  void* pages_ = nullptr;
};

}  // namespace nalab::python
