// Tensors over tokens: shapes with named extents, non-owning strided views, and an owning tensor.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "buffer.h"
#include "element.h"

namespace nalab {

/// Extents of a heads-last token tensor [batch, X1, X2, X3, heads, dim]. Layouts of rank 1 and 2 have leading extents
/// of one; extra tokens are a layout {1, 1, extra_tokens}; lse has dim 1.
struct TokenShape {
  int64_t batch = 0;
  std::array<int64_t, 3> layout{0, 0, 0};
  int64_t heads = 0;
  int64_t dim = 0;

  constexpr int64_t tokens() const { return layout[0] * layout[1] * layout[2]; }
  constexpr int64_t elements() const { return batch * tokens() * heads * dim; }
  bool operator==(const TokenShape&) const = default;
};

/// Distances in elements between neighbours along each extent of a TokenShape; those along dim are adjacent.
struct TokenStrides {
  int64_t batch = 0;
  std::array<int64_t, 3> layout{0, 0, 0};
  int64_t heads = 0;

  /// Row-major and without gaps.
  static constexpr TokenStrides contiguous(const TokenShape& shape) {
    TokenStrides s;
    s.heads = shape.dim;
    s.layout[2] = shape.heads * s.heads;
    s.layout[1] = shape.layout[2] * s.layout[2];
    s.layout[0] = shape.layout[1] * s.layout[1];
    s.batch = shape.layout[0] * s.layout[0];
    return s;
  }
  bool operator==(const TokenStrides&) const = default;
};

/// Non-owning strided view of a token tensor whose element type is known at compile time.
template <class T>
struct TokenView {
  T* data = nullptr;
  TokenShape shape;
  TokenStrides strides;

  /// First of the `dim` adjacent elements of one head of one token.
  T* row(int64_t b, int64_t x1, int64_t x2, int64_t x3, int64_t h) const {
    return data + b * strides.batch + x1 * strides.layout[0] + x2 * strides.layout[1] + x3 * strides.layout[2] +
           h * strides.heads;
  }
  T* row(int64_t b, const std::array<int64_t, 3>& x, int64_t h) const { return row(b, x[0], x[1], x[2], h); }

  operator TokenView<const T>() const requires(!std::is_const_v<T>) { return {data, shape, strides}; }
};

/// Non-owning strided view of a token tensor whose element type is known at run time. Void is void or const void.
/// A default-constructed view stands for a tensor that is absent.
template <class Void>
struct BasicTensorView {
  template <class T>
  using Element = std::conditional_t<std::is_const_v<Void>, const T, T>;

  Void* data = nullptr;
  ElementType type = ElementType::f32;
  TokenShape shape;
  TokenStrides strides;

  bool present() const { return data != nullptr; }

  /// T must be the type that `type` stands for.
  template <class T>
  TokenView<Element<T>> as() const {
    return {static_cast<Element<T>*>(data), shape, strides};
  }

  operator BasicTensorView<const void>() const requires(!std::is_const_v<Void>) { return {data, type, shape, strides}; }
};

using TensorView = BasicTensorView<void>;
using ConstTensorView = BasicTensorView<const void>;

/// View over contiguous memory that someone else owns.
template <class T>
auto contiguous_view(T* data, const TokenShape& shape) {
  using Void = std::conditional_t<std::is_const_v<T>, const void, void>;
  return BasicTensorView<Void>{data, element_type_of<std::remove_const_t<T>>::value, shape,
                               TokenStrides::contiguous(shape)};
}

/// Owning, contiguous, 64-byte aligned token tensor. Uninitialised.
class Tensor {
 public:
  Tensor() = default;
  Tensor(ElementType type, const TokenShape& shape)
      : type_(type), shape_(shape), storage_(shape.elements() * size_of(type)) {}

  ElementType type() const { return type_; }
  const TokenShape& shape() const { return shape_; }
  int64_t elements() const { return shape_.elements(); }

  template <class T>
  T* data() {
    return reinterpret_cast<T*>(storage_.data());
  }
  template <class T>
  const T* data() const {
    return reinterpret_cast<const T*>(storage_.data());
  }

  TensorView view() { return {storage_.data(), type_, shape_, TokenStrides::contiguous(shape_)}; }
  ConstTensorView view() const { return {storage_.data(), type_, shape_, TokenStrides::contiguous(shape_)}; }

 private:
  ElementType type_ = ElementType::f32;
  TokenShape shape_;
  AlignedBuffer<std::byte> storage_;
};

}  // namespace nalab
