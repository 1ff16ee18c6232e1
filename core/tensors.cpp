#include "core/tensors.h"

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

std::vector<int64_t> TensorInfo::extents(const Problem& problem) const {
  std::vector<int64_t> extents{shape.batch};
  if (over_layout) {
    for (const Axis& axis : problem.axes) extents.push_back(axis.extent);
  } else {
    extents.push_back(shape.layout[2]);
  }
  extents.push_back(shape.heads);
  if (has_dim) extents.push_back(shape.dim);
  return extents;
}

std::vector<TensorInfo> tensors_of(const Problem& problem, bool backward) {
  std::vector<TensorInfo> list;
  const auto append = [&list](const TensorInfo& info, const auto&) { list.push_back(info); };
  const Inputs inputs{};
  const Outputs outputs{};
  const Gradients gradients{};
  visit_tensors(problem, inputs, append);
  if (backward) list.push_back(tensor_list::dout(problem));
  visit_tensors(problem, outputs, append);
  if (backward) visit_tensors(problem, gradients, append);
  return list;
}

std::optional<TensorInfo> find_tensor(const Problem& problem, std::string_view name) {
  for (const TensorEntry& entry : tensor_list::kInputs) {
    if (entry.name == name) return tensor_list::input(entry, problem);
    if (entry.gradient_name == name) return tensor_list::gradient(entry, problem);
  }
  for (const TensorInfo& info : {tensor_list::out(problem), tensor_list::lse(problem), tensor_list::dout(problem)}) {
    if (info.name == name) return info;
  }
  return std::nullopt;
}

void check(const Problem& problem, const Inputs& inputs, const Outputs& outputs) {
  check_bundle(problem, inputs);
  check_bundle(problem, outputs);
}

void check(const Problem& problem, const Inputs& inputs, const SavedForBackward& saved, const Gradients& gradients) {
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
