// What the library would do and why, as plain Python data.
#pragma once

#include <nanobind/nanobind.h>

#include <string_view>
#include <vector>

#include "core/problem.h"
#include "python/bindings/arguments.h"

namespace nalab::python {

/// Those of a problem besides its layout.
struct Extents {
  int64_t batch = 1, heads = 1, heads_kv = 1, head_dim = 1, head_dim_v = 1, extra_tokens = 0;
};

/// A problem for descriptions; layout and neighborhood as in calls.
Problem describe_problem(nb::handle layout, const Neighborhood& neighborhood, const Extents& extents,
                         bool relative_bias, std::string_view dtype);

/// What would run, its cost, and for every other variant why it does not. Throws Error as make_plan does.
nb::dict describe_plan(const Problem& problem, std::string_view pass, std::string_view variant, int threads);

/// Name, term of the papers and summary of every variant, in order of preference.
nb::list describe_variants();

/// The analytic model of tiles. q_tile, kv_tile: None for those of the published figures.
nb::dict describe_simulation(const Problem& problem, nb::handle q_tile, nb::handle kv_tile, bool dynamic_kv,
                             bool single_dimensional);

/// The CPU as the library sees it.
nb::dict describe_machine(int threads);

}  // namespace nalab::python
