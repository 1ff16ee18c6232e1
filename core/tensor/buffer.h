// Owning memory for tensors and workspaces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace nalab {

/// Cache line and the widest vector: what every owning buffer is aligned to.
inline constexpr std::size_t kAlignment = 64;

/// Owning, 64-byte aligned, uninitialised storage for `size` elements of a trivial type. Movable, not copyable.
template <class T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  /// Throws std::bad_alloc if allocation fails.
  explicit AlignedBuffer(int64_t size)
      : size_(size),
        data_(static_cast<T*>(
            ::operator new (static_cast<std::size_t>(size) * sizeof(T), std::align_val_t{kAlignment}))) {}

  int64_t size() const { return size_; }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete (p, std::align_val_t{kAlignment}); }
  };
  int64_t size_ = 0;
  std::unique_ptr<T, Free> data_;
};

}  // namespace nalab
