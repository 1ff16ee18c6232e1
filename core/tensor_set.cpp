#include "core/tensor_set.h"

namespace nalab {

TensorSet::TensorSet(const Problem& problem, Pass pass, bool (*wanted)(Role)) : problem_(problem) {
  for (const TensorInfo& info : tensors_of(problem, pass)) {
    if (wanted(info.role)) entries_.push_back({info, Tensor(info.type, info.shape)});
  }
}

const Tensor* TensorSet::find(std::string_view name) const {
  for (const Entry& entry : entries_) {
    if (entry.info.name == name) return &entry.tensor;
  }
  return nullptr;
}

TensorView TensorSet::view(std::string_view name) {
  for (Entry& entry : entries_) {
    if (entry.info.name == name) return entry.tensor.view();
  }
  return {};
}

ConstTensorView TensorSet::view(std::string_view name) const {
  const Tensor* tensor = find(name);
  return tensor == nullptr ? ConstTensorView{} : tensor->view();
}

std::vector<float> to_floats(const Tensor& tensor) {
  return with_element_type(tensor.type(), [&](auto element) {
    const auto* data = tensor.data<decltype(element)>();
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = to_float(data[i]);
    return values;
  });
}

}  // namespace nalab
