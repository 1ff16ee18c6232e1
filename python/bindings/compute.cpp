#include "python/bindings/compute.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/nalab.h"
#include "core/tensor/buffer.h"
#include "python/bindings/arrays.h"
#include "python/bindings/released_gil.h"
#include "python/bindings/session.h"

namespace nalab::python {

namespace {

/// The arrays of a call by the library's names.
class Arguments {
 public:
  explicit Arguments(const nb::dict& tensors) {
    objects_.reserve(tensors.size());
    arrays_.reserve(tensors.size());
    for (const auto& [key, value] : tensors) {
      if (!value.is_none()) objects_.emplace_back(nb::cast<std::string_view>(key), value);
    }
  }

  /// Null if there is no array of this name.
  nb::handle object(std::string_view name) const {
    for (const auto& [own, value] : objects_) {
      if (own == name) return value;
    }
    return {};
  }
  /// Null if there is no array of this name. Throws Error if it is none that the library can use.
  const Array* find(std::string_view name, Access access = Access::read) {
    for (const Array& array : arrays_) {
      if (array.name() == name) return &array;
    }
    const nb::handle given = object(name);
    return given.is_valid() ? &arrays_.emplace_back(name, given, access) : nullptr;
  }
  const Array& get(std::string_view name, Access access = Access::read) {
    if (const Array* array = find(name, access)) return *array;
    throw Error("tensor " + std::string(name) + " is missing");
  }

 private:
  std::vector<std::pair<std::string_view, nb::handle>> objects_;
  std::vector<Array> arrays_;  ///< never grows beyond what is reserved
};

/// Axes of a token tensor besides its layout: batch, heads, dim.
constexpr int kOtherAxes = 3;

int rank_of(const Array& tokens) {
  const int rank = tokens.ndim() - kOtherAxes;
  if (rank >= 1 && rank <= 3) return rank;
  throw Error("tensor " + std::string(tokens.name()) + " has shape " + shape_text(tokens.shape()) +
              ", must have 4 to 6 axes: batch, one to three of the token layout, heads, head_dim");
}

std::vector<int64_t> layout_of(const Array& tokens, int rank) {
  const std::vector<int64_t>& shape = tokens.shape();
  return {shape.begin() + 1, shape.begin() + 1 + rank};
}

/// The problem that the shapes describe. Whether every tensor fits it is checked where its view is made.
Problem problem_of(Pass pass, Arguments& arguments, const Neighborhood& neighborhood, nb::handle scale) {
  const bool of_values = pass == Pass::values || pass == Pass::values_backward;
  const Array& tokens = arguments.get(of_values ? "v" : "q");
  Problem problem;
  problem.axes = neighborhood.axes(layout_of(tokens, rank_of(tokens)));
  problem.batch = tokens.extent(0);
  problem.type = tokens.type();
  problem.heads = of_values ? arguments.get("attn").extent(-2) : tokens.extent(-2);
  const Array& keys = of_values ? tokens : arguments.get("k");
  problem.heads_kv = keys.extent(-2);
  problem.head_dim = tokens.extent(-1);
  problem.head_dim_v = of_values || is_split(pass) ? tokens.extent(-1) : arguments.get("v").extent(-1);
  const Array *const extra_k = arguments.find("extra_k"), *const extra_v = arguments.find("extra_v");
  if (extra_k != nullptr && extra_v != nullptr && extra_k->extent(1) != extra_v->extent(1)) {
    throw Error("extra_k has " + std::to_string(extra_k->extent(1)) + " tokens, extra_v " +
                std::to_string(extra_v->extent(1)) + ": they must have as many");
  }
  if (const Array* const extra = extra_k != nullptr ? extra_k : extra_v) problem.extra_tokens = extra->extent(1);
  problem.relative_bias = arguments.object("rpb").is_valid() || arguments.object("drpb").is_valid();
  if (!scale.is_none()) {
    double value = 0;
    if (!nb::try_cast(scale, value)) {
      throw Error("scale " + text_of(scale) + " must be a number, or None");
    }
    problem.scale = value;
  }
  problem.validate();
  return problem;
}

bool is_written(const TensorInfo& info, Pass pass) {
  return info.role == (is_backward(pass) ? Role::gradient : Role::output);
}

nb::object make_result(std::string_view name, const std::vector<int64_t>& shape, bool is_f32,
                       const nb::callable& empty) {
  return empty(nb::str(name.data(), name.size()), to_tuple(shape), is_f32);
}

/// The views of a call, and its results.
struct Call {
  std::vector<std::pair<std::string_view, TensorView>> views;
  nb::dict results;
  std::vector<Array> made;  ///< arrays of results that the caller did not give
  bool tokens_in_a_row = true;

  TensorView view(std::string_view name) const {
    for (const auto& [own, view] : views) {
      if (own == name) return view;
    }
    return {};
  }
  Inputs inputs() const { return {view("q"), view("k"), view("v"), view("extra_k"), view("extra_v"), view("rpb")}; }
  Gradients gradients() const {
    return {view("dq"), view("dk"), view("dv"), view("dextra_k"), view("dextra_v"), view("drpb")};
  }
};

/// For an lse that the caller does not want: an array of the caller's kind would take longer to make. Kept by each
/// thread that calls.
TensorView unwanted_lse(const TensorInfo& info) {
  thread_local AlignedBuffer<float> memory;
  if (memory.size() < info.shape.elements()) memory = AlignedBuffer<float>(info.shape.elements());
  return {memory.data(), ElementType::f32, info.shape, TokenStrides::contiguous(info.shape)};
}

/// Adds the views of what is read, then of what is written.
Call prepare(const Problem& problem, Pass pass, Arguments& arguments, bool wants_lse, const nb::callable& empty) {
  Call call;
  const std::vector<TensorInfo> tensors = tensors_of(problem, pass);
  call.views.reserve(tensors.size());
  call.made.reserve(tensors.size());
  const auto add = [&](const TensorInfo& info, const TensorView& view) {
    if (info.over == Over::layout) call.tokens_in_a_row = call.tokens_in_a_row && tokens_in_a_row(view);
    call.views.emplace_back(info.name, view);
  };
  for (const TensorInfo& info : tensors) {
    if (!is_written(info, pass)) add(info, arguments.get(info.name).view(info, problem));
  }
  for (const TensorInfo& info : tensors) {
    if (!is_written(info, pass)) continue;
    if (info.name == "lse" && !wants_lse) {
      add(info, unwanted_lse(info));
      continue;
    }
    const nb::str name(info.name.data(), info.name.size());
    nb::object object = nb::borrow<nb::object>(arguments.object(info.name));
    if (!object.is_valid()) {
      object = make_result(info.name, info.extents(problem), info.type == ElementType::f32, empty);
      call.made.emplace_back(info.name, object, Access::write);
      add(info, call.made.back().view(info, problem));
    } else {
      const Array& given = arguments.get(info.name, Access::write);
      const TensorView view = given.view(info, problem);
      std::vector<ConstTensorView> others;
      for (const auto& [other, of_call] : call.views) others.push_back(of_call);
      check_disjoint(given, view, others);
      add(info, view);
    }
    call.results[name] = object;
  }
  return call;
}

void run(const Plan& plan, const Call& call, Context& context) {
  const Inputs inputs = call.inputs();
  switch (plan.pass()) {
    case Pass::forward:
      return attention_forward(plan, inputs, {call.view("out"), call.view("lse")}, context);
    case Pass::backward:
      return attention_backward(plan, inputs, {call.view("out"), call.view("lse"), call.view("dout")}, call.gradients(),
                                context);
    case Pass::weights:
      return attention_weights(plan, inputs, call.view("attn"), context);
    case Pass::weights_backward:
      return attention_weights_backward(plan, inputs, call.view("dattn"), call.gradients(), context);
    case Pass::values:
      return attention_values(plan, call.view("attn"), inputs, call.view("out"), context);
    case Pass::values_backward:
      return attention_values_backward(plan, call.view("attn"), inputs, call.view("dout"), call.view("dattn"),
                                       call.gradients(), context);
  }
}

geometry::TokenPermutation permutation_of(const std::vector<int64_t>& layout, nb::handle tile, nb::handle dilation) {
  const int rank = static_cast<int>(layout.size());
  const auto tiles = per_axis("tile", tile, rank), dilations = per_axis("dilation", dilation, rank);
  std::array<Axis, geometry::kAxes> axes{};
  geometry::TokenPermutation::Token extents{1, 1, 1};
  for (std::size_t i = 0; i < layout.size(); ++i) {
    const auto require = [i](const char* name, int64_t value) {
      if (value >= 1) return;
      throw Error("axis " + std::to_string(i + 1) + ": " + name + " " + std::to_string(value) + " must be at least 1");
    };
    require("tile", tiles[i]);
    require("dilation", dilations[i]);
    const std::size_t to = geometry::kAxes - layout.size() + i;
    axes[to].extent = layout[i];
    axes[to].dilation = dilations[i];
    extents[to] = tiles[i];
  }
  return {axes, extents};
}

}  // namespace

nb::dict compute(std::string_view pass_name, const nb::dict& tensors, const Neighborhood& neighborhood,
                 nb::handle scale, std::string_view variant, int threads, bool wants_lse, const nb::callable& empty) {
  const Pass pass = parse_pass(pass_name);
  Arguments arguments(tensors);
  const Problem problem = problem_of(pass, arguments, neighborhood, scale);
  Call call = prepare(problem, pass, arguments, wants_lse, empty);
  // These read environment variables, which other threads of Python may set meanwhile unless this one has the GIL.
  const auto plan = plan_for(problem, pass, variant, call.tokens_in_a_row);
  const auto own = context(threads);
  {
    const ReleasedGil released;
    run(*plan, call, *own);
  }
  return std::move(call.results);
}

nb::tuple merge(const nb::sequence& outs, const nb::sequence& lses, int threads, const nb::callable& empty) {
  std::vector<Array> arrays;
  std::vector<PartialAttention> parts;
  std::vector<nb::object> given_lses;
  for (const nb::handle lse : lses) given_lses.push_back(nb::borrow<nb::object>(lse));
  std::size_t i = 0;
  Problem problem;
  for (const nb::handle out : outs) {
    const std::string suffix = "[" + std::to_string(i) + "]";
    if (i == given_lses.size()) throw Error("there are more outs than lses, must be one lse for each out");
    const Array& array = arrays.emplace_back("out" + suffix, out, Access::read);
    if (i == 0) {
      problem.axes.clear();
      for (const int64_t extent : layout_of(array, rank_of(array))) problem.axes.push_back({.extent = extent});
      problem.batch = array.extent(0);
      problem.heads = problem.heads_kv = array.extent(-2);
      problem.head_dim_v = array.extent(-1);
      problem.type = array.type();
      problem.validate();
    }
    const TensorView view = array.view(tensor_list::out(problem), problem);
    const Array& sums = arrays.emplace_back("lse" + suffix, given_lses[i], Access::read);
    parts.push_back({view, sums.view(tensor_list::lse(problem), problem)});
    ++i;
  }
  if (parts.empty()) throw Error("there are no partial attentions to merge");
  if (i != given_lses.size()) throw Error("there are more lses than outs, must be one lse for each out");
  const TensorInfo out_info = tensor_list::out(problem), lse_info = tensor_list::lse(problem);
  const nb::object out = make_result("out", out_info.extents(problem), problem.type == ElementType::f32, empty);
  const nb::object lse = make_result("lse", lse_info.extents(problem), true, empty);
  const Array out_array("out", out, Access::write), lse_array("lse", lse, Access::write);
  const Outputs merged{out_array.view(out_info, problem), lse_array.view(lse_info, problem)};
  const auto own = context(threads);
  {
    const ReleasedGil released;
    merge_attention(parts, merged, *own);
  }
  return nb::make_tuple(out, lse);
}

nb::object permute(nb::handle tokens, nb::handle tile, nb::handle dilation, int threads, const nb::callable& empty) {
  const Array from("tokens", tokens, Access::read);
  const int rank = rank_of(from);
  const auto permutation = permutation_of(layout_of(from, rank), tile, dilation);
  const TensorView view = from.tokens(rank);
  const nb::object result =
      make_result("permuted", {view.shape.batch, view.shape.tokens(), view.shape.heads, view.shape.dim},
                  view.type == ElementType::f32, empty);
  const Array to("permuted", result, Access::write);
  const auto own = context(threads);
  {
    const ReleasedGil released;
    permute_tokens(permutation, view, to.tokens(1), *own);
  }
  return result;
}

nb::object unpermute(nb::handle permuted, nb::handle layout, nb::handle tile, nb::handle dilation, int threads,
                     const nb::callable& empty) {
  const Array from("permuted", permuted, Access::read);
  if (from.ndim() != kOtherAxes + 1) {
    throw Error("tensor permuted has shape " + shape_text(from.shape()) + ", must be [batch, tokens, heads, dim]");
  }
  const int rank = rank_of_layout(layout);
  if (rank < 1 || rank > 3) throw Error("layout has " + std::to_string(rank) + " axes, must have 1 to 3");
  const std::vector<int64_t> extents = per_axis("layout", layout, rank);
  const auto permutation = permutation_of(extents, tile, dilation);
  const TensorView view = from.tokens(1);
  std::vector<int64_t> shape{view.shape.batch};
  shape.insert(shape.end(), extents.begin(), extents.end());
  shape.insert(shape.end(), {view.shape.heads, view.shape.dim});
  int64_t rest = view.shape.tokens();  // extents given are of any size: a product of them may overflow
  const auto divides = [&rest](int64_t extent) {
    if (extent < 1 || rest % extent != 0) return false;
    rest /= extent;
    return true;
  };
  if (!std::ranges::all_of(extents, divides) || rest != 1) {
    throw Error("layout " + shape_text(extents) + " does not have the " + std::to_string(view.shape.tokens()) +
                " tokens of the permuted tensor");
  }
  const nb::object result = make_result("tokens", shape, view.type == ElementType::f32, empty);
  const Array to("tokens", result, Access::write);
  const auto own = context(threads);
  {
    const ReleasedGil released;
    unpermute_tokens(permutation, view, to.tokens(rank), *own);
  }
  return result;
}

}  // namespace nalab::python
