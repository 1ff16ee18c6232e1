// Arguments of Python callers that are no arrays.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/problem.h"

namespace nalab::python {

namespace nb = nanobind;

/// What repr() says, on one line: arrays take several.
std::string text_of(nb::handle object);

/// An integer of 64 bits. Throws Error that names the argument if the object is none.
int64_t integer(std::string_view name, nb::handle object);

/// How many integers a layout is of: the length of a sequence; 1 of anything without one, as an array without axes is.
int rank_of_layout(nb::handle object);

/// One integer for each of `rank` axes; a single one, or a sequence of one, stands for all. bool counts as 0 or 1.
/// Throws Error that names the argument if the object is anything else.
std::vector<int64_t> per_axis(std::string_view name, nb::handle object, int rank);

/// The neighborhood parameters of a call, as the caller gave them.
struct Neighborhood {
  nb::handle window, stride, dilation, causal;

  /// Axes of a layout. Throws Error as per_axis does, or if causal is neither 0 nor 1.
  std::vector<Axis> axes(const std::vector<int64_t>& layout) const;
};

/// The name of a variant, which lives with the object; empty for None. Throws Error if it is neither.
std::string_view variant_name(nb::handle object);

nb::tuple to_tuple(std::span<const int64_t> values);

/// "float32", "bfloat16" or "float16", also as "f32", "bf16", "f16". Throws Error for any other name.
ElementType parse_dtype(std::string_view text);

}  // namespace nalab::python
