// The six passes of the library on arrays of Python callers.
#pragma once

#include <nanobind/nanobind.h>

#include <string_view>

#include "python/bindings/arguments.h"

namespace nalab::python {

/// Computes a pass and returns its results by name, in the order of the library's list of tensors. The problem is read
/// off the shapes.
///
/// tensors: arrays by the library's names (core/tensors.h), None for those that are absent. A result that is among them
/// is written in place; others are made by empty(name, shape, is_f32), an array of the caller's kind in float32 or in
/// the problem's element type. wants_lse: whether lse is among the results of the forward pass. scale: None for the
/// pass' default. variant: empty for the library's choice. threads: 0 for the default. The GIL is released while the
/// library computes. Throws Error as the library does, and if an array does not fit.
nb::dict compute(std::string_view pass_name, const nb::dict& tensors, const Neighborhood& neighborhood,
                 nb::handle scale, std::string_view variant, int threads, bool wants_lse, const nb::callable& empty);

/// (out, lse) of partial attentions over disjoint sets of keys, merged. outs [batch, X..., heads, head_dim_v],
/// lses [batch, X..., heads].
nb::tuple merge(const nb::sequence& outs, const nb::sequence& lses, int threads, const nb::callable& empty);

/// Tokens [batch, X..., heads, dim] permuted to tiles: [batch, tokens, heads, dim].
nb::object permute(nb::handle tokens, nb::handle tile, nb::handle dilation, int threads, const nb::callable& empty);
/// The inverse; layout: X.
nb::object unpermute(nb::handle permuted, nb::handle layout, nb::handle tile, nb::handle dilation, int threads,
                     const nb::callable& empty);

}  // namespace nalab::python
