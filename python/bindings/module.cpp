// nalab._core: the library for the Python modules of the package, which hold the documented interface.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "core/error.h"
#include "core/parallel.h"
#include "python/bindings/arrays.h"
#include "python/bindings/compute.h"
#include "python/bindings/describe.h"
#include "python/bindings/session.h"

namespace nb = nanobind;
using namespace nb::literals;
using nalab::python::describe_problem;
using nalab::python::Extents;
using nalab::python::integer;
using nalab::python::Neighborhood;
using nalab::python::variant_name;

NB_MODULE(_core, m) {
  // None too, where the library says what is wrong with it.
  const auto any = [](const char* name) { return nb::arg(name).none(); };
  m.doc() = "The compiled part of nalab. Use the functions of the package instead.";
  m.attr("__version__") = NALAB_VERSION;
  nalab::python::watch_forks();
  nb::exception<nalab::Error>(m, "Error", PyExc_ValueError).attr("__doc__") =
      "A request that the library refuses: one sentence that says what is wrong.";

  m.def(
      "compute",
      [](std::string_view pass, const nb::dict& tensors, nb::handle window, nb::handle stride, nb::handle dilation,
         nb::handle causal, nb::handle scale, nb::handle variant, int threads, bool wants_lse,
         const nb::callable& empty) {
        return nalab::python::compute(pass, tensors, {window, stride, dilation, causal}, scale, variant_name(variant),
                                      threads, wants_lse, empty);
      },
      "pass_"_a, "tensors"_a, any("window"), any("stride"), any("dilation"), any("causal"), any("scale"),
      any("variant"), "threads"_a, "wants_lse"_a, "empty"_a, "Computes a pass; results by name.");
  m.def("merge", &nalab::python::merge, "outs"_a, "lses"_a, "threads"_a, "empty"_a, "Merges partial attentions.");
  m.def("permute", &nalab::python::permute, "tokens"_a, any("tile"), any("dilation"), "threads"_a, "empty"_a,
        "Tokens in the order of tiles.");
  m.def("unpermute", &nalab::python::unpermute, "permuted"_a, any("layout"), any("tile"), any("dilation"), "threads"_a,
        "empty"_a, "The inverse of permute.");
  m.def("make_array", &nalab::python::make_array, "shape"_a, "type"_a,
        "An uninitialised array that speaks DLPack; type: f32, bf16 or f16.");
  m.def("make_capsule", &nalab::python::make_capsule, "shape"_a, "type"_a, "The same as a capsule of DLPack's.");
  m.def(
      "plan",
      [](nb::handle layout, nb::handle window, nb::handle stride, nb::handle dilation, nb::handle causal,
         nb::handle batch, nb::handle heads, nb::handle heads_kv, nb::handle head_dim, nb::handle head_dim_v,
         nb::handle extra_tokens, bool relative_bias, std::string_view dtype, std::string_view pass, nb::handle variant,
         int threads) {
        const Extents extents{integer("batch", batch),           integer("heads", heads),
                              integer("heads_kv", heads_kv),     integer("head_dim", head_dim),
                              integer("head_dim_v", head_dim_v), integer("extra_tokens", extra_tokens)};
        return nalab::python::describe_plan(
            describe_problem(layout, {window, stride, dilation, causal}, extents, relative_bias, dtype), pass,
            variant_name(variant), threads);
      },
      any("layout"), any("window"), any("stride"), any("dilation"), any("causal"), any("batch"), any("heads"),
      any("heads_kv"), any("head_dim"), any("head_dim_v"), any("extra_tokens"), "relative_bias"_a, "dtype"_a, "pass_"_a,
      any("variant"), "threads"_a, "What would run.");
  m.def("variants", &nalab::python::describe_variants, "(name, term of the papers, summary) of every variant.");
  m.def(
      "sim",
      [](nb::handle layout, nb::handle window, nb::handle stride, nb::handle dilation, nb::handle causal,
         nb::handle extra_tokens, nb::handle q_tile, nb::handle kv_tile, bool dynamic_kv, bool single_dimensional) {
        return nalab::python::describe_simulation(
            describe_problem(layout, {window, stride, dilation, causal},
                             {.extra_tokens = integer("extra_tokens", extra_tokens)}, false, "f32"),
            q_tile, kv_tile, dynamic_kv, single_dimensional);
      },
      any("layout"), any("window"), any("stride"), any("dilation"), any("causal"), any("extra_tokens"), any("q_tile"),
      any("kv_tile"), "dynamic_kv"_a, "single_dimensional"_a, "The analytic model of tiles.");
  m.def("machine", &nalab::python::describe_machine, "threads"_a, "The CPU as the library sees it.");
  m.def("use_openmp", &nalab::python::use_openmp, "gomp_parallel"_a,
        "Runs later calls on the threads of an OpenMP runtime, by the address of its GOMP_parallel; 0: on own ones.");
  m.def("choose_threads", &nalab::choose_threads, "threads"_a, "A number of threads; for 0 the default.");
  m.def("threads_of_environment", &nalab::python::threads_of_environment,
        "What NALAB_THREADS says; 0 if it says nothing.");
}
