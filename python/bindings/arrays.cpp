#include "python/bindings/arrays.h"

#include <nanobind/stl/string.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>

#include "core/error.h"
#include "python/bindings/session.h"

namespace nalab::python {

namespace {

std::string kind_of(nb::handle object) {
  return nb::cast<std::string>(nb::borrow<nb::object>(object.type()).attr("__name__"));
}

/// "list", "ndarray of >f4"
std::string describe_kind(nb::handle object) {
  if (!nb::hasattr(object, "dtype")) return kind_of(object);
  return kind_of(object) + " of " + nb::cast<std::string>(nb::str(nb::object(object.attr("dtype"))));
}

/// NumPy exports no bfloat16, which is ml_dtypes' there, but the same bits as unsigned integers.
bool is_numpy_bf16(nb::handle object) {
  if (!nb::hasattr(object, "dtype") || !nb::hasattr(object, "view")) return false;
  const nb::object dtype = object.attr("dtype");
  return nb::hasattr(dtype, "name") && nb::cast<std::string>(nb::str(nb::object(dtype.attr("name")))) == "bfloat16";
}

/// Whether the object is an array that allows the access; if so, sets `array` to it.
bool import_array(nb::handle object, Access access, nb::ndarray<nb::ro>& array) {
  if (access == Access::read) return nb::try_cast(object, array, false);
  nb::ndarray<> writable;
  if (!nb::try_cast(object, writable, false)) return false;
  array = nb::ndarray<nb::ro>(writable);
  return true;
}

/// What the attribute __array_struct__ of NumPy's arrays holds: the third version of the array interface.
struct ArrayStruct {
  int two, ndim;
  char kind;
  int bytes, flags;
  intptr_t *shape, *strides;  ///< strides in bytes
  void* data;
};
constexpr int kAligned = 0x100, kNativeByteOrder = 0x200, kWritable = 0x400;  ///< flags

/// The fields that are used of the table of functions which a class of tensors has as __dlpack_c_exchange_api__ (DLPack
/// 1.2, DLPackExchangeAPI).
struct ExchangeApi {
  struct {
    uint32_t major, minor;
  } version;
  const ExchangeApi* previous;
  void *make, *export_owner, *import_owner;
  int (*describe)(void* object,
                  nb::dlpack::dltensor* tensor);  ///< 0, and what lives with the object; or an error is set
};

/// What all arrays of a class have in common.
struct ArrayClass {
  nb::object self;
  bool has_mask;           ///< numpy.ma's: some of the numbers do not count
  const ExchangeApi* api;  ///< null for classes other than PyTorch's and those without such a table
};

ArrayClass read_class(nb::handle self) {
  const nb::object capsule = nb::steal(PyObject_GetAttrString(self.ptr(), "__dlpack_c_exchange_api__"));
  const auto* api = nb::hasattr(self, "requires_grad") && capsule.is_valid() && PyCapsule_CheckExact(capsule.ptr())
                        ? static_cast<const ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"))
                        : nullptr;
  PyErr_Clear();
  if (api != nullptr && (api->version.major != 1 || api->describe == nullptr)) api = nullptr;
  return {nb::borrow(self), nb::hasattr(self, "mask"), api};
}

/// The class of an object; read once, under the GIL.
ArrayClass class_of(nb::handle object) {
  // A class that was asked for is kept, so that no other has its address; and for ever, since the interpreter ends
  // before objects of this library do.
  static auto& known = *new std::vector<ArrayClass>;
  for (const ArrayClass& own : known) {
    if (own.self.is(object.type())) return own;
  }
  ArrayClass own = read_class(object.type());
  constexpr std::size_t kMostClasses = 64;
  if (known.size() < kMostClasses) known.push_back(own);
  return own;
}

ElementType element_type(const std::string& name, nb::dlpack::dtype type) {
  using Code = nb::dlpack::dtype_code;
  const auto is = [&](Code code, int bits) {
    return type.code == static_cast<uint8_t>(code) && type.bits == bits && type.lanes == 1;
  };
  if (is(Code::Float, 32)) return ElementType::f32;
  if (is(Code::Float, 16)) return ElementType::f16;
  if (is(Code::Bfloat, 16)) return ElementType::bf16;
  const std::string bits = std::to_string(type.bits);
  const std::string kind = type.code == static_cast<uint8_t>(Code::Float)     ? "float" + bits
                           : type.code == static_cast<uint8_t>(Code::Int)     ? "int" + bits
                           : type.code == static_cast<uint8_t>(Code::UInt)    ? "uint" + bits
                           : type.code == static_cast<uint8_t>(Code::Bool)    ? "bool"
                           : type.code == static_cast<uint8_t>(Code::Complex) ? "complex" + bits
                                                                              : "of another type";
  throw Error("tensor " + name + " is " + kind + ", must be float32, bfloat16 or float16: convert it first");
}

/// Addresses [first, last] of the elements of a view.
std::pair<const char*, const char*> address_range(const ConstTensorView& view) {
  int64_t low = 0, high = view.shape.dim - 1;
  const auto add = [&](int64_t extent, int64_t stride) { (stride < 0 ? low : high) += (extent - 1) * stride; };
  add(view.shape.batch, view.strides.batch);
  for (int i = 0; i < 3; ++i) add(view.shape.layout[i], view.strides.layout[i]);
  add(view.shape.heads, view.strides.heads);
  const char* const data = static_cast<const char*>(view.data);
  return {data + low * size_of(view.type), data + (high + 1) * size_of(view.type) - 1};
}

/// Whether two elements of a view have one address: the extents by growing stride must each lie beyond those before.
bool overlaps_itself(const TensorView& view) {
  std::array<std::pair<int64_t, int64_t>, 5> axes{{{std::abs(view.strides.batch), view.shape.batch},
                                                   {std::abs(view.strides.layout[0]), view.shape.layout[0]},
                                                   {std::abs(view.strides.layout[1]), view.shape.layout[1]},
                                                   {std::abs(view.strides.layout[2]), view.shape.layout[2]},
                                                   {std::abs(view.strides.heads), view.shape.heads}}};
  std::ranges::sort(axes);
  int64_t reach = view.shape.dim - 1;  // greatest distance within the extents so far
  for (const auto& [stride, extent] : axes) {
    if (extent == 1) continue;
    if (stride <= reach) return true;
    reach += (extent - 1) * stride;
  }
  return false;
}

}  // namespace

Array::Array(std::string_view name, nb::handle object, Access access) : name_(name) {
  // A tuple of its own class, which nalab.torch makes; a plain one is a mistake like any other.
  if (PyTuple_Check(object.ptr()) && !PyTuple_CheckExact(object.ptr())) {
    describe(nb::borrow<nb::tuple>(object));
  } else if (class_of(object).has_mask) {
    throw Error("tensor " + name_ + " is a " + kind_of(object) +
                ", whose mask would be ignored: pass its data, or what filled() gives");
  } else if (!read_exchange_api(object) && !read_array_struct(object, access)) {
    import_from(object, access);
  }
}

void Array::describe(const nb::tuple& description) {
  data_ = reinterpret_cast<void*>(nb::cast<uintptr_t>(description[0]));
  for (const nb::handle extent : nb::borrow<nb::object>(description[1])) shape_.push_back(nb::cast<int64_t>(extent));
  for (const nb::handle stride : nb::borrow<nb::object>(description[2])) strides_.push_back(nb::cast<int64_t>(stride));
  type_ = parse_element_type(nb::cast<const char*>(description[3]));
}

/// PyTorch's tensors, in a tenth of the time that DLPack takes otherwise. False for all others, and for tensors whose
/// numbers are not there or of another type, which import_from refuses. The table does not say what is read-only, as
/// none of PyTorch's tensors is.
bool Array::read_exchange_api(nb::handle object) {
  const ExchangeApi* const api = class_of(object).api;
  if (api == nullptr) return false;
  nb::dlpack::dltensor tensor{};
  if (api->describe(object.ptr(), &tensor) != 0) {
    PyErr_Clear();
    return false;
  }
  if (tensor.device.device_type != nb::device::cpu::value || tensor.data == nullptr || tensor.strides == nullptr) {
    return false;
  }
  type_ = element_type(name_, tensor.dtype);
  data_ = static_cast<char*>(tensor.data) + tensor.byte_offset;
  shape_.assign(tensor.shape, tensor.shape + tensor.ndim);
  strides_.assign(tensor.strides, tensor.strides + tensor.ndim);
  keeps_ = nb::borrow(object);
  return true;
}

/// NumPy's arrays of float and half, in a quarter of the time that DLPack takes. False for all others.
bool Array::read_array_struct(nb::handle object, Access access) {
  nb::object capsule = nb::steal(PyObject_GetAttrString(object.ptr(), "__array_struct__"));
  if (!capsule.is_valid() || !PyCapsule_CheckExact(capsule.ptr())) {
    PyErr_Clear();
    return false;
  }
  const auto* const array = static_cast<const ArrayStruct*>(PyCapsule_GetPointer(capsule.ptr(), nullptr));
  const int needed = kAligned | kNativeByteOrder | (access == Access::write ? kWritable : 0);
  if (array == nullptr || array->two != 2 || array->kind != 'f' || (array->bytes != 4 && array->bytes != 2) ||
      (array->flags & needed) != needed) {
    PyErr_Clear();
    return false;
  }
  type_ = array->bytes == 4 ? ElementType::f32 : ElementType::f16;
  data_ = array->data;
  for (int axis = 0; axis < array->ndim; ++axis) {
    if (array->strides[axis] % array->bytes != 0) return false;
  }
  shape_.assign(array->shape, array->shape + array->ndim);
  strides_.reserve(shape_.size());
  for (int axis = 0; axis < array->ndim; ++axis) strides_.push_back(array->strides[axis] / array->bytes);
  keeps_ = std::move(capsule);
  return true;
}

void Array::import_from(nb::handle object, Access access) {
  nb::object source = nb::borrow<nb::object>(object);
  bool found = import_array(source, access, array_);
  if (!found && is_numpy_bf16(object)) {
    source = object.attr("view")("uint16");
    found = import_array(source, access, array_);
    type_ = ElementType::bf16;
  } else if (found && array_.device_type() == nb::device::cpu::value) {
    type_ = element_type(name_, array_.dtype());
  }
  if (!found) {
    if (access == Access::write && import_array(source, Access::read, array_)) {
      throw Error("tensor " + name_ + " is read-only, and would be written");
    }
    throw Error("tensor " + name_ + " must be an array that speaks DLPack or the buffer protocol; this " +
                describe_kind(object) + " does not");
  }
  if (array_.device_type() != nb::device::cpu::value) {
    throw Error("tensor " + name_ + " is not on the CPU: copy it there first");
  }
  data_ = const_cast<void*>(static_cast<const void*>(array_.data()));
  for (std::size_t axis = 0; axis < array_.ndim(); ++axis) {
    shape_.push_back(static_cast<int64_t>(array_.shape(axis)));
    strides_.push_back(array_.stride(axis));
  }
}

int64_t Array::extent(int axis) const {
  if (axis < 0) axis += ndim();
  return axis < 0 || axis >= ndim() ? 1 : shape_[static_cast<std::size_t>(axis)];
}

TensorView Array::view(const TokenShape& shape, int layout_axes, bool has_heads, bool has_dim) const {
  TensorView view{data_, type_, shape, TokenStrides::contiguous(shape)};
  auto stride = strides_.begin();
  view.strides.batch = *stride++;
  for (int i = 3 - layout_axes; i < 3; ++i) view.strides.layout[i] = *stride++;
  if (has_heads) view.strides.heads = *stride++;
  if (has_dim && shape.dim > 1 && *stride != 1) {
    throw Error("tensor " + name_ + ": its last axis has stride " + std::to_string(*stride) +
                ", must be 1: the elements of a head lie next to each other");
  }
  return view;
}

TensorView Array::view(const TensorInfo& info, const Problem& problem) const {
  const std::vector<int64_t> wanted = info.extents(problem);
  if (shape_ != wanted) {
    throw Error("tensor " + name_ + " has shape " + shape_text(shape_) + ", must be " + shape_text(wanted));
  }
  const int layout_axes = info.over == Over::extra_tokens ? 1 : problem.rank();
  return view(info.shape, layout_axes, info.over != Over::offsets, info.has_dim);
}

TensorView Array::tokens(int rank) const {
  if (std::ranges::count(shape_, 0) > 0) {
    throw Error("tensor " + name_ + " has shape " + shape_text(shape_) + ", must have elements");
  }
  TokenShape shape{extent(0), {1, 1, 1}, extent(-2), extent(-1)};
  for (int i = 0; i < rank; ++i) shape.layout[3 - rank + i] = extent(1 + i);
  return view(shape, rank, true, true);
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text;
  for (const int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "[" + text + "]";
}

void check_disjoint(const Array& written, const TensorView& view, std::span<const ConstTensorView> others) {
  const std::string subject = "tensor " + std::string(written.name());
  if (overlaps_itself(view)) throw Error(subject + " would be written, and some of its elements share an address");
  const auto [first, last] = address_range(view);
  for (const ConstTensorView& other : others) {
    const auto [other_first, other_last] = address_range(other);
    if (first <= other_last && other_first <= last) {
      throw Error(subject + " would be written, and shares memory with another tensor of the call");
    }
  }
}

namespace {

nb::dlpack::dtype dlpack_type(ElementType type) {
  using Code = nb::dlpack::dtype_code;
  return {static_cast<uint8_t>(type == ElementType::bf16 ? Code::Bfloat : Code::Float),
          static_cast<uint8_t>(8 * size_of(type)), 1};
}

std::unique_ptr<Memory> memory_for(const std::vector<int64_t>& shape, ElementType type) {
  const int64_t bytes = std::accumulate(shape.begin(), shape.end(), size_of(type), std::multiplies<>());
  return take_memory(std::max<int64_t>(bytes, 1));
}

/// DLPack's DLManagedTensor, which the first three members are, and what it points to.
struct OwnTensor {
  nb::dlpack::dltensor tensor{};
  void* unused = nullptr;
  void (*free)(OwnTensor*) = [](OwnTensor* self) {
    give_back(std::move(self->memory));
    delete self;
  };
  std::vector<int64_t> shape, strides;
  std::unique_ptr<Memory> memory;
};

/// Of a capsule that nobody has taken its tensor from.
void free_capsule(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, "dltensor") == 0) return;
  auto* const own = static_cast<OwnTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
  own->free(own);
}

}  // namespace

nb::object make_array(const std::vector<int64_t>& shape, std::string_view type) {
  const ElementType element = parse_element_type(type);
  const std::vector<std::size_t> extents(shape.begin(), shape.end());
  auto memory = memory_for(shape, element);
  void* const data = memory->data();
  const nb::capsule owner(memory.release(),
                          [](void* p) noexcept { give_back(std::unique_ptr<Memory>(static_cast<Memory*>(p))); });
  return nb::cast(
      nb::ndarray<nb::array_api>(data, extents.size(), extents.data(), owner, nullptr, dlpack_type(element)));
}

nb::object make_capsule(const std::vector<int64_t>& shape, std::string_view type) {
  const ElementType element = parse_element_type(type);
  auto own = std::make_unique<OwnTensor>();
  own->shape = shape;
  own->strides.resize(shape.size());
  int64_t stride = 1;
  for (std::size_t axis = shape.size(); axis-- > 0; stride *= shape[axis]) own->strides[axis] = stride;
  own->memory = memory_for(shape, element);
  own->tensor.data = own->memory->data();
  own->tensor.device = {nb::device::cpu::value, 0};
  own->tensor.ndim = static_cast<int32_t>(shape.size());
  own->tensor.dtype = dlpack_type(element);
  own->tensor.shape = own->shape.data();
  own->tensor.strides = own->strides.data();
  nb::object capsule = nb::steal(PyCapsule_New(own.get(), "dltensor", free_capsule));
  if (!capsule.is_valid()) throw nb::python_error();
  own.release();
  return capsule;
}

}  // namespace nalab::python
