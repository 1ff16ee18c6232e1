#include "python/bindings/arguments.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <algorithm>
#include <climits>
#include <optional>
#include <string>

#include "core/error.h"

namespace nalab::python {

namespace {

/// nullopt if the object is no integer. Those of other libraries, such as NumPy's, count, and their bools. Throws Error
/// that names the argument if it is one that takes more than 64 bits.
std::optional<int64_t> integer_of(std::string_view name, nb::handle object) {
  if (!PyLong_Check(object.ptr())) {
    const auto kind = nb::cast<std::string>(object.type().attr("__name__"));
    if (kind == "bool" || kind == "bool_") return PyObject_IsTrue(object.ptr()) == 1 ? 1 : 0;
    if (!PyIndex_Check(object.ptr())) return std::nullopt;
  }
  const nb::object index = nb::steal(PyNumber_Index(object.ptr()));
  if (!index.is_valid()) {
    PyErr_Clear();
    return std::nullopt;
  }
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0) throw Error(std::string(name) + " is an integer of more than 64 bits");
  return value;
}

}  // namespace

int64_t integer(std::string_view name, nb::handle object) {
  if (const auto value = integer_of(name, object)) return *value;
  throw Error(std::string(name) + " " + text_of(object) + " must be an integer");
}

int rank_of_layout(nb::handle object) {
  const Py_ssize_t items = PyObject_Size(object.ptr());
  if (items >= 0) return static_cast<int>(std::min(items, Py_ssize_t{INT_MAX}));
  PyErr_Clear();
  return 1;
}

std::vector<int64_t> per_axis(std::string_view name, nb::handle object, int rank) {
  if (const auto value = integer_of(name, object)) {
    return std::vector<int64_t>(static_cast<std::size_t>(rank), *value);
  }
  const auto refuse = [&]() -> Error {
    return Error(std::string(name) + " " + text_of(object) + " must be an integer, or " + std::to_string(rank) +
                 " of them, one for each axis of the layout");
  };
  if (!PySequence_Check(object.ptr()) || PyUnicode_Check(object.ptr()) || PyBytes_Check(object.ptr())) throw refuse();
  const auto items = nb::steal<nb::tuple>(PySequence_Tuple(object.ptr()));
  if (!items.is_valid()) {  // an array without axes
    PyErr_Clear();
    throw refuse();
  }
  std::vector<int64_t> values;
  for (const nb::handle item : items) {
    const auto value = integer_of(name, item);
    if (!value) throw refuse();
    values.push_back(*value);
  }
  if (values.size() == 1) values.resize(static_cast<std::size_t>(rank), values.front());
  if (static_cast<int>(values.size()) != rank) throw refuse();
  return values;
}

std::vector<Axis> Neighborhood::axes(const std::vector<int64_t>& layout) const {
  const int rank = static_cast<int>(layout.size());
  const auto windows = per_axis("window", window, rank), strides = per_axis("stride", stride, rank),
             dilations = per_axis("dilation", dilation, rank), causals = per_axis("causal", causal, rank);
  std::vector<Axis> axes;
  axes.reserve(layout.size());
  for (std::size_t i = 0; i < layout.size(); ++i) {
    if (causals[i] != 0 && causals[i] != 1) {
      throw Error("axis " + std::to_string(i + 1) + ": causal " + std::to_string(causals[i]) + " must be 0 or 1");
    }
    axes.push_back({layout[i], windows[i], strides[i], dilations[i], causals[i] == 1});
  }
  return axes;
}

std::string text_of(nb::handle object) {
  const auto text = nb::cast<std::string>(nb::repr(object));
  std::string line;
  for (const char c : text) {
    const bool is_blank = c == ' ' || c == '\n';
    if (!(is_blank && line.ends_with(' '))) line += is_blank ? ' ' : c;
  }
  return line;
}

nb::tuple to_tuple(std::span<const int64_t> values) {
  nb::tuple tuple = nb::steal<nb::tuple>(PyTuple_New(static_cast<Py_ssize_t>(values.size())));
  for (std::size_t i = 0; i < values.size(); ++i) {
    PyTuple_SetItem(tuple.ptr(), static_cast<Py_ssize_t>(i), PyLong_FromLongLong(values[i]));
  }
  return tuple;
}

std::string_view variant_name(nb::handle object) {
  if (object.is_none()) return {};
  std::string_view name;
  if (!nb::try_cast(object, name)) throw Error("variant " + text_of(object) + " must be a name, or None");
  return name;
}

ElementType parse_dtype(std::string_view text) {
  if (text == "float32") return ElementType::f32;
  if (text == "bfloat16") return ElementType::bf16;
  if (text == "float16") return ElementType::f16;
  return parse_element_type(text);
}

}  // namespace nalab::python
