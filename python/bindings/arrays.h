// Arrays of Python callers as tensors of the library: any object on the CPU that speaks DLPack or the buffer protocol,
// read and written where it lies.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensors.h"

namespace nalab::python {

namespace nb = nanobind;

/// What a call does with an array.
enum class Access : uint8_t { read, write };

/// An array of the caller's; keeps its memory alive.
class Array {
 public:
  /// name: in messages. object: an array, or a tuple (address, shape, strides in elements, "f32", "bf16" or "f16") of
  /// one that the caller keeps alive, for libraries whose export takes longer than a small call. Throws Error that
  /// names the array if the object is no array, is not on the CPU, has another element type than float32, bfloat16 and
  /// float16, or is read-only and to be written.
  Array(std::string_view name, nb::handle object, Access access);

  std::string_view name() const { return name_; }
  ElementType type() const { return type_; }
  int ndim() const { return static_cast<int>(shape_.size()); }
  /// Extent of an axis, from the end if negative; 1 if the array lacks it.
  int64_t extent(int axis) const;
  const std::vector<int64_t>& shape() const { return shape_; }

  /// A view of it as a tensor of a problem. Throws Error if shape, or element type of one that is read, is not the
  /// tensor's, or if the elements along the last extent do not lie next to each other.
  TensorView view(const TensorInfo& info, const Problem& problem) const;
  /// A view as a token tensor [batch, X..., heads, dim] with a layout of this rank, whatever its extents.
  TensorView tokens(int rank) const;

 private:
  bool read_array_struct(nb::handle object, Access access);
  bool read_exchange_api(nb::handle object);
  void import_from(nb::handle object, Access access);
  void describe(const nb::tuple& description);
  TensorView view(const TokenShape& shape, int layout_axes, bool has_heads, bool has_dim) const;

  std::string name_;
  nb::ndarray<nb::ro> array_;  ///< keeps the memory alive, as keeps_ does; empty for one that is described
  nb::object keeps_;
  void* data_ = nullptr;
  std::vector<int64_t> shape_, strides_;
  ElementType type_ = ElementType::f32;
};

/// "[1, 56, 56, 2, 32]"
std::string shape_text(std::span<const int64_t> shape);

/// Throws Error if an array that is written overlaps itself, or shares memory with another one of the call.
void check_disjoint(const Array& written, const TensorView& view, std::span<const ConstTensorView> others);

/// An array of the library's own memory (take_memory), uninitialised: it speaks DLPack and the buffer protocol.
nb::object make_array(const std::vector<int64_t>& shape, std::string_view type);
/// The same as a capsule of DLPack's, for one tensor of another library.
nb::object make_capsule(const std::vector<int64_t>& shape, std::string_view type);

}  // namespace nalab::python
