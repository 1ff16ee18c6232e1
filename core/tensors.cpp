#include "core/tensors.h"

#include <string>

#include "core/error.h"
#include "core/tensor/check.h"

namespace nalab {

namespace {

std::array<int64_t, 3> layout3(const Problem& problem) {
  const auto axes = problem.axes3();
  return {axes[0].extent, axes[1].extent, axes[2].extent};
}

template <class Bundle>
void check_bundle(const Problem& problem, const Bundle& bundle) {
  visit_tensors(problem, bundle, [](const TensorInfo& info, const ConstTensorView& view) {
    if (info.is_result()) {
      check_output(info.name, view, info.shape, info.type);
    } else {
      check_input(info.name, view, info.shape, info.type);
    }
  });
}

}  // namespace

TokenShape q_shape(const Problem& p) { return {p.batch, layout3(p), p.heads, p.head_dim}; }
TokenShape k_shape(const Problem& p) { return {p.batch, layout3(p), p.heads_kv, p.head_dim}; }
TokenShape v_shape(const Problem& p) { return {p.batch, layout3(p), p.heads_kv, p.head_dim_v}; }
TokenShape extra_k_shape(const Problem& p) { return {p.batch, {1, 1, p.extra_tokens}, p.heads_kv, p.head_dim}; }
TokenShape extra_v_shape(const Problem& p) { return {p.batch, {1, 1, p.extra_tokens}, p.heads_kv, p.head_dim_v}; }
TokenShape out_shape(const Problem& p) { return {p.batch, layout3(p), p.heads, p.head_dim_v}; }
TokenShape lse_shape(const Problem& p) { return {p.batch, layout3(p), p.heads, 1}; }
TokenShape rpb_shape(const Problem& p) { return {p.heads, geometry::BiasTable(p.axes3()).extents(), 1, 1}; }
TokenShape attn_shape(const Problem& p) { return {p.batch, layout3(p), p.heads, p.keys_per_query()}; }

std::vector<int64_t> TensorInfo::extents(const Problem& problem) const {
  std::vector<int64_t> extents;
  extents.reserve(shape.layout.size() + 3);  // with batch, heads and dim
  extents.push_back(shape.batch);
  const int axes = over == Over::extra_tokens ? 1 : problem.rank();
  extents.insert(extents.end(), shape.layout.end() - axes, shape.layout.end());
  if (over != Over::offsets) extents.push_back(shape.heads);
  if (has_dim) extents.push_back(shape.dim);
  return extents;
}

std::vector<TensorInfo> tensors_of(const Problem& problem, Pass pass) {
  using namespace tensor_list;
  std::vector<TensorInfo> list;
  list.reserve((is_backward(pass) ? 2 : 1) * std::size(kInputs) + 3);  // out, lse and dout besides
  const auto append = [&](Role role, const auto& wanted) {
    for (const TensorEntry& entry : kInputs) {
      if (entry.present(problem) && wanted(entry)) list.push_back(info(entry, role, problem));
    }
  };
  const auto all = [](const TensorEntry&) { return true; };
  const auto of_weights = [](const TensorEntry& entry) { return entry.of_weights; };
  const auto of_values = [](const TensorEntry& entry) { return !entry.of_weights; };
  switch (pass) {
    case Pass::forward:
    case Pass::backward:
      append(Role::input, all);
      if (pass == Pass::backward) list.push_back(dout(problem));
      list.push_back(out(problem));
      list.push_back(lse(problem));
      if (pass == Pass::backward) append(Role::gradient, all);
      break;
    case Pass::weights:
      append(Role::input, of_weights);
      list.push_back(attn(problem, Role::output));
      break;
    case Pass::weights_backward:
      // The biases themselves are not needed.
      append(Role::input, [](const TensorEntry& entry) { return entry.of_weights && entry.over != Over::offsets; });
      list.push_back(dattn(problem, Role::output_gradient));
      append(Role::gradient, of_weights);
      break;
    case Pass::values:
      list.push_back(attn(problem, Role::input));
      append(Role::input, of_values);
      list.push_back(out(problem));
      break;
    case Pass::values_backward:
      list.push_back(attn(problem, Role::input));
      append(Role::input, of_values);
      list.push_back(dout(problem));
      list.push_back(dattn(problem, Role::gradient));
      append(Role::gradient, of_values);
      break;
  }
  return list;
}

std::optional<TensorInfo> find_tensor(const Problem& problem, std::string_view name) {
  for (const TensorEntry& entry : tensor_list::kInputs) {
    if (entry.name == name) return tensor_list::info(entry, Role::input, problem);
    if (entry.gradient_name == name) return tensor_list::info(entry, Role::gradient, problem);
  }
  for (const TensorInfo& info : {tensor_list::out(problem), tensor_list::lse(problem), tensor_list::dout(problem)}) {
    if (info.name == name) return info;
  }
  return std::nullopt;
}

void refuse_unused(const Problem& problem, const Inputs& inputs, Pass pass) {
  for (const TensorEntry& entry : tensor_list::kInputs) {
    const ConstTensorView& view = inputs.*entry.input;
    const bool of_pass =
        !is_split(pass) || entry.of_weights == (pass == Pass::weights || pass == Pass::weights_backward);
    if (of_pass && !entry.present(problem) && view.present() && view.shape.elements() > 0) {
      throw Error("tensor " + std::string(entry.name) + " is given, but the problem has no " +
                  (entry.over == Over::offsets ? "relative bias" : "extra tokens"));
    }
  }
}

void check(const Problem& problem, const Inputs& inputs, const Outputs& outputs) {
  refuse_unused(problem, inputs, Pass::forward);
  check_bundle(problem, inputs);
  check_bundle(problem, outputs);
}

void check(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients) {
  refuse_unused(problem, inputs, Pass::backward);
  check_bundle(problem, inputs);
  check_bundle(problem, saved);
  check_bundle(problem, gradients);
}

bool tokens_in_a_row(const ConstTensorView& view) {
  const auto& extent = view.shape.layout;
  const auto& stride = view.strides.layout;
  return (extent[0] == 1 || stride[0] == extent[1] * stride[1]) &&
         (extent[0] * extent[1] == 1 || stride[1] == extent[2] * stride[2]);
}

}  // namespace nalab
