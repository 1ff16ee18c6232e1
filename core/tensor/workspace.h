// Cutting one piece of memory into the parts that a kernel needs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/tensor/buffer.h"

namespace nalab {

/// Cuts memory into 64-byte aligned parts, one after the other. With no memory behind it, it only adds up the size: so
/// the function that cuts a workspace is also the one that states how large it is.
class WorkspaceCutter {
 public:
  explicit WorkspaceCutter(std::byte* memory) : memory_(memory) {}

  /// The next `count` elements, uninitialised; null with no memory behind it.
  template <class T>
  T* take(int64_t count) {
    std::byte* const part = memory_ == nullptr ? nullptr : memory_ + size_;
    const int64_t alignment = static_cast<int64_t>(kAlignment);
    size_ += (count * static_cast<int64_t>(sizeof(T)) + alignment - 1) / alignment * alignment;
    return reinterpret_cast<T*>(part);
  }
  /// Bytes cut so far.
  int64_t size() const { return size_; }

 private:
  std::byte* memory_;
  int64_t size_ = 0;
};

/// The private parts of all workers, one after the other.
struct WorkerMemory {
  std::byte* first;
  int64_t bytes_per_worker;

  WorkspaceCutter of(int worker) const { return WorkspaceCutter(first + worker * bytes_per_worker); }
};

/// Bytes that carve(cutter) cuts.
template <class Carve>
int64_t carved_bytes(const Carve& carve) {
  WorkspaceCutter cutter(nullptr);
  carve(cutter);
  return cutter.size();
}

}  // namespace nalab
